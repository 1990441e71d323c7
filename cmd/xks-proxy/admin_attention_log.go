package main

// What an operator should look at because of the log.

import (
	"fmt"
	"time"

	"xks-proxy/internal/text"
)

// logAttention is what an operator should know about the log.
func logAttention(s *logState, now time.Time) []attention {
	var all []attention
	if s.Failing != "" {
		all = append(all, attention{severityCritical, fmt.Sprintf(
			"The log (%s) cannot be written for %s: %s Up to 8 MiB of lines wait in memory.",
			s.Output, text.Duration(now.Sub(s.Since)), sentence(s.Failing))})
	}
	if s.Lost > 0 && now.Sub(s.LastLost) < oneDay {
		all = append(all, attention{severityCritical, fmt.Sprintf(
			"%s of the log were lost since the start, the last %s ago.",
			text.Plural(int(s.Lost), "line"), text.Duration(now.Sub(s.LastLost)))})
	}
	return all
}
