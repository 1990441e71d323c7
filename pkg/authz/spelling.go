package authz

// What somebody may have meant who wrote a name that does not exist.

import "strings"

// didYouMean answers a hint where one of the known names differs by at most two letters, and by
// half of them at most, else "".
func didYouMean(name string, known []string) string {
	meant, distance := nearest(name, known)
	if distance > min(2, len(name)/2) {
		return ""
	}
	return " (did you mean " + meant + "?)"
}

// nearest answers the known name that differs by the fewest letters, and how many; of several, one
// as long as name.
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

// editDistance is Levenshtein's, for names of at most 64 bytes; for longer ones it is 64.
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
