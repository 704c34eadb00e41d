"""Robustness needs more data: sample sizes in the Gaussian model of Schmidt et al. (NeurIPS 2018), in closed form.

It needs the studies, from a clone: `pip install -e '.[report]' -e studies`.
"""

import torch

from lightning_robust_studies.schmidt2018.theory import loglog_slope, sqrt_d_sweep

if __name__ == "__main__":
    rows = sqrt_d_sweep([2**k for k in range(8, 17, 2)], [0.25], sigma_scale=0.5)
    print("dimension  standard (1 % error)  robust (50 % crossing)")
    for row in rows:
        print(f"{row.d:9d}  {row.n_standard:20.2f}  {row.n_half:22.2f}")
    d, n = (torch.tensor([float(getattr(row, name)) for row in rows]) for name in ("d", "n_half"))
    print(f"the robust sample size grows like d^{float(loglog_slope(d, n)):.2f}")
