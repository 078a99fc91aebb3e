"""Any grid of questions, answered point by point: axes, questions, files, and who computes."""
