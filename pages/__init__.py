"""The explorer's pages, one file each; parts/ holds what they share."""
