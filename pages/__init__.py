"""The explorer's pages, one file each; parts/ holds what they share or what one page alone uses."""
