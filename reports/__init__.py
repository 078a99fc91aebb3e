"""Reports: tables (pandas), figures (matplotlib) and a page (Jinja2) of estimates and measurements.

`pip install 'llm-kvplan[report]'` brings what is needed. Nothing here imports torch, and nothing in `planner`
imports this package. Formulas live in `planner`; here numbers are only arranged.

content.py says what a report holds; kinds.py lists the figures, each with the table behind it; folder.py writes.
"""
