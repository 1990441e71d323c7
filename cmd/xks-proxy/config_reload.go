package main

// What a reload asks of the operator.

// confirms tells whether an operator has to accept what loosens.
func (c reloadConfig) confirms() bool { return c.Loosening == "confirm" }
