"""What the app looks at: finished artifacts as bounded tables. No Streamlit, no torch, nothing is fitted here."""
