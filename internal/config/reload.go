package config

// What a reload asks of the operator.

// Confirms tells whether an operator has to accept what loosens.
func (c Reload) Confirms() bool { return c.Loosening == "confirm" }
