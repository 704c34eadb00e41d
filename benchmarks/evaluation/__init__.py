"""The verdict of `standard` beside those of AutoAttack and adv-lib, image by image, and its least radii."""
