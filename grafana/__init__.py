"""Dashboards as code: what Grafana shows is declared here, `python -m grafana.build` writes the JSON that it reads."""
