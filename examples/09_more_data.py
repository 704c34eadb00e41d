"""Why robustness needs more data
==============================

Sample sizes in the Gaussian model of Schmidt et al. (NeurIPS 2018), in closed form.

It needs the studies, from a clone: `pip install -e '.[report]' -e studies`.
"""

import torch

from lightning_robust_studies.schmidt2018.theory import loglog_slope, sqrt_d_sweep

# %%
needs = sqrt_d_sweep([2**k for k in range(8, 17, 2)], [0.25], sigma_scale=0.5)
names = {"d": "dimension", "n_standard": "standard (1 % error)", "n_half": "robust (50 % crossing)"}
print(needs[list(names)].rename(columns=names).round(2).to_string(index=False))
d, n = (torch.tensor(needs[name].to_numpy(float)) for name in ("d", "n_half"))
print(f"the robust sample size grows like d^{loglog_slope(d, n):.2f}")
