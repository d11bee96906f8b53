"""Models: how a VLM is loaded and fed, frozen encoders, and which model a name stands for."""
