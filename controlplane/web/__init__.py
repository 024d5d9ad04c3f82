"""The faces: pages, API and metrics over one plane. They decide nothing and show what was judged and sealed."""
