package api

// What is blocked, as the admin API answers it.

import (
	"xks-proxy/internal/killswitch"
)

// BlockList is the answer of GET BlocksPath.
type BlockList struct {
	Blocks     []killswitch.Block `json:"blocks"`               // of operators, the oldest first
	Survive    bool               `json:"survive"`              // they are remembered across restarts
	Unsaved    string             `json:"unsaved,omitempty"`    // why the file does not say what is in effect
	Configured []ConfiguredBlock  `json:"configured,omitempty"` // by the configuration
}

// ConfiguredBlock is a key store that its configuration blocks.
type ConfiguredBlock struct {
	KeyStore string `json:"keyStore"`
	Place    string `json:"place"` // FILE:LINE:COLUMN: KEY
}
