"""Finished artifacts as bounded tables for pages and reports; no Streamlit, no torch, no fitting."""
