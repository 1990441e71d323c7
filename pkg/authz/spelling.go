package authz

// Suggestions for a name that does not exist.

import "strings"

// didYouMean returns a hint if one of the known names differs by at most two letters, and by at
// most half of them, and "" otherwise.
func didYouMean(name string, known []string) string {
	meant, distance := nearest(name, known)
	if distance > min(2, len(name)/2) {
		return ""
	}
	return " (did you mean " + meant + "?)"
}

// nearest returns the known name that differs by the fewest letters, and by how many. Among several
// it prefers one as long as name.
func nearest(name string, known []string) (string, int) {
	meant, distance := "", maxName
	for _, k := range known {
		d := editDistance(strings.ToLower(name), strings.ToLower(k))
		if d < distance || (d == distance && len(k) == len(name)) {
			meant, distance = k, d
		}
	}
	return meant, distance
}

// editDistance is the Levenshtein distance, for names of at most 64 bytes. For longer ones it is
// 64.
func editDistance(a, b string) int {
	if len(a) > maxName || len(b) > maxName {
		return maxName
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
