"""The rules of MLMP as pure functions: no database, no network, no clock. Time is an argument, in ms UTC."""
