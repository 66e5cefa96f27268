"""The commands of `wholescene`, one file a group: each parses, calls the library and prints. Heavy imports stay inside the commands."""
