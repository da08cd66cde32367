"""Modules: those that came with the package as module_*.so beside this file, and those that are built when they are first used."""
