"""Reports, tables and figures of finished runs, and what others published."""
