"""Networks of other packages: trained as if the attack was written in the step, evaluated without a trace."""

import pytest
import torch
import torch.nn.functional as F
from callbacks_fakes import EPS, fingerprint, fit, same, state, trainer
from thirdparty.by_hand import BATCH, BATCHES, CLASSES, Case, User, iterates, loader, right, with_input

from lightning_robust import AdversarialTraining, RobustEvaluation
from lightning_robust.attacks import dense_correct

SHARE = 0.25
"""Of the positions of a sample with dense labels that must be right."""


def pictures(size, n=BATCH * BATCHES):
    x = torch.randint(0, 65, (n, 3, size, size), generator=torch.Generator().manual_seed(1)) / 64
    return x.split(BATCH)


def classes():
    return torch.arange(BATCH) % CLASSES


def pairs(size):
    return [[x, classes()] for x in pictures(size)]


def _logits(net, batch):
    return net(batch[0])


def _loss(net, batch):
    return F.cross_entropy(net(batch[0]), batch[1])


def of_tensors(net, size):
    """A network that takes pictures and gives logits."""
    return Case(net, lambda: pairs(size), _logits, _loss, tensors=True)


def timm_vit():
    timm = pytest.importorskip("timm")

    def net():
        vit = timm.create_model("test_vit", img_size=32, patch_size=8, num_classes=CLASSES, drop_path_rate=0.3)
        vit.set_grad_checkpointing(True)
        return vit

    return of_tensors(net, 32)


def timm_resnet():
    timm = pytest.importorskip("timm")

    def net():
        resnet = timm.create_model("test_resnet", num_classes=CLASSES, drop_path_rate=0.3, drop_rate=0.2)
        resnet.set_grad_checkpointing(True)
        return resnet

    return of_tensors(net, 32)


def torchvision_resnet():
    models = pytest.importorskip("torchvision.models")
    return of_tensors(lambda: models.resnet18(num_classes=CLASSES), 32)


def torchvision_segmentation():
    segmentation = pytest.importorskip("torchvision.models.segmentation")

    def batches():
        labels = torch.arange(BATCH * 32 * 32).reshape(BATCH, 32, 32) // 100 % CLASSES
        labels[:, :4] = -100
        return [[x, labels] for x in pictures(32)]

    def logits(net, batch):
        return net(batch[0])["out"]

    return Case(
        lambda: segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES),
        batches,
        logits,
        lambda net, batch: F.cross_entropy(logits(net, batch), batch[1]),
        class_dim=1,
    )


def transformers_vit():
    transformers = pytest.importorskip("transformers")

    def net():
        vit = transformers.ViTForImageClassification(
            transformers.ViTConfig(
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                image_size=16,
                patch_size=8,
                num_labels=CLASSES,
                hidden_dropout_prob=0.2,
            )
        )
        name = "activation" if hasattr(vit, "activation_checkpointing_enable") else "gradient"  # its old name
        getattr(vit, f"{name}_checkpointing_enable")({"use_reentrant": False})
        return vit

    return Case(
        net,
        lambda: [{"pixel_values": x, "labels": y} for x, y in pairs(16)],
        lambda net, batch: net(pixel_values=batch["pixel_values"]).logits,
        lambda net, batch: net(**batch).loss,
        input="pixel_values",
        target="labels",
    )


def transformers_tokens():
    """Attacked along the embeddings, with padding that does not count."""
    transformers = pytest.importorskip("transformers")
    tokens, width = 5, 16

    def batches():
        generator = torch.Generator().manual_seed(2)
        x = torch.randint(-64, 65, (BATCH * BATCHES, tokens, width), generator=generator) / 64
        mask = (torch.arange(tokens) < torch.tensor([5, 3, 4, 2])[:, None]).long()
        labels = torch.where(mask == 1, torch.arange(BATCH * tokens).reshape(BATCH, tokens) % CLASSES, -100)
        return [{"inputs_embeds": x, "attention_mask": mask, "labels": labels} for x in x.split(BATCH)]

    def net():
        return transformers.BertForTokenClassification(
            transformers.BertConfig(
                vocab_size=8,
                hidden_size=width,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=8,
                num_labels=CLASSES,
            )
        )

    return Case(
        net,
        batches,
        lambda net, batch: net(inputs_embeds=batch["inputs_embeds"], attention_mask=batch["attention_mask"]).logits,
        lambda net, batch: net(**batch).loss,
        input="inputs_embeds",
        target="labels",
        class_dim=-1,
        low=-1.0,
    )


CASES = [timm_vit, timm_resnet, torchvision_resnet, torchvision_segmentation, transformers_vit, transformers_tokens]


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def case(request):
    return request.param()


def test_training_is_as_by_hand(case):
    module, reference, clean = User(case), User(case, by_hand=True), User(case)
    fitted = fit(module, AdversarialTraining(case.attack(), **case.arguments()), loader=loader(case), max_epochs=1)
    assert same(fitted, fit(reference, loader=loader(case), max_epochs=1))
    assert not same(fitted, fit(clean, loader=loader(case), max_epochs=1))
    assert len(module.seen) == BATCHES
    for x, x_adv in zip(clean.seen, module.seen, strict=True):
        assert 0 < float((x_adv - x).abs().max()) <= EPS
        assert case.low <= float(x_adv.min())
        assert float(x_adv.max()) <= 1


def test_evaluation_is_as_by_hand_and_leaves_no_trace(case):
    module = User(case)
    before, marks = state(module), fingerprint(module)
    correct = None if case.class_dim is None else dense_correct(SHARE, class_dim=case.class_dim)
    evaluation = RobustEvaluation(case.attack(), correct=correct, **case.arguments())
    torch.manual_seed(3)
    trainer(evaluation).validate(module, loader(case), verbose=False)
    drawn = torch.rand(())
    assert same(state(module), before)
    assert fingerprint(module) == marks
    assert all(p.grad is None for p in module.parameters())
    torch.manual_seed(3)
    trainer().validate(module, loader(case), verbose=False)
    assert torch.equal(drawn, torch.rand(()))  # the random stream is where it would have been
    module.eval()
    clean, robust = [], []
    for batch in case.batches():
        hits = [
            right(case, module.net, with_input(batch, case.input, x), SHARE if correct else 1)
            for x in iterates(case, module.net, batch)
        ]
        clean.append(hits[0])
        robust.append(torch.stack(hits).all(0))
    assert evaluation.results["val/clean_acc"] == pytest.approx(float(torch.cat(clean).float().mean()))
    assert evaluation.results["val/robust_acc"] == pytest.approx(float(torch.cat(robust).float().mean()))
