"""occd: an online code compiler that people run themselves. Start reading at occd/app.py."""

__version__ = "0.1.0"
