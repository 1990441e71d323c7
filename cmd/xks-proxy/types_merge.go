package main

// The types of two neighbours, as the admin socket needs them, until they bring their own.

import "time"

// reloadState is what became of the configuration since the program started.
type reloadState struct {
	Generation      int       `json:"generation"`
	LoadedAt        time.Time `json:"loadedAt"`
	Attempts        int       `json:"attempts"`
	Failures        int       `json:"failures"`
	LastAttempt     time.Time `json:"lastAttempt,omitzero"`
	LastBy          string    `json:"lastBy,omitempty"`
	LastError       string    `json:"lastError,omitempty"` // of the last attempt; "": it succeeded
	WaitsForRestart []string  `json:"waitsForRestart,omitempty"`
}
