package main

// Words for eyes, under the short names that this package uses for them: see internal/text.

import (
	"time"

	"xks-proxy/internal/text"
)

func shortDuration(d time.Duration) string { return text.Duration(d) }

func shortCount(n uint64) string { return text.Count(n) }

func plural(n int, what string) string { return text.Plural(n, what) }

// suggest is the known name that was probably meant.
func suggest(name string, known []string) string { return text.Near(name, known) }

// didYouMean is the end of a sentence about an unknown name.
func didYouMean(name string, known []string) string { return text.DidYouMean(name, known) }
