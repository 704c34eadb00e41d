"""Schmidt, Santurkar, Tsipras, Talwar, Madry, Adversarially Robust Generalization Requires More Data (NeurIPS 2018)."""
