"""Studies: papers run end to end over cells of settings, with tables, figures and reports."""
