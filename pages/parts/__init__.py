"""What the app's pages share: the view chosen in the sidebar, cached reads, cards, runs, tooltips."""
