"""Finished artifacts as bounded tables; no Streamlit, no torch, no fitting."""
