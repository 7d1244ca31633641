"""The first version of occd, as far as later ones meet it: messages, events and a node's record, written by
commit 99529c6, and copies of its readers. Nothing here changes any more."""
