package main

// What is blocked, as the admin API answers it.

// blockList is the answer of GET adminBlocksPath.
type blockList struct {
	Blocks     []block           `json:"blocks"`               // of operators, the oldest first
	Survive    bool              `json:"survive"`              // they are remembered across restarts
	Unsaved    string            `json:"unsaved,omitempty"`    // why the file does not say what is in effect
	Configured []configuredBlock `json:"configured,omitempty"` // by the configuration
}

// configuredBlock is a key store that its configuration blocks.
type configuredBlock struct {
	KeyStore string `json:"keyStore"`
	Place    string `json:"place"` // FILE:LINE:COLUMN: KEY
}
