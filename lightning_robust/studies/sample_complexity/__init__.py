"""The experiments of Schmidt et al. (NeurIPS 2018): how much data robustness needs."""
