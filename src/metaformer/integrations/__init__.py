"""Our models inside other libraries: importing a module here makes them known there."""
