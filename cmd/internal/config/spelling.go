package config

import "slices"

// hint helps with a variable that is no setting. For a secret it names the setting of
// the file that the secret belongs in.
func hint(name string, known []string) string {
	if file := name + "_FILE"; slices.Contains(known, file) {
		return "; it is read from a file: set " + file + " to the path of one"
	}
	return suggestion(name, known)
}

// suggestion names the nearest known variable, if it is at most two typing
// errors away.
func suggestion(name string, known []string) string {
	nearest, least := "", 3
	for _, k := range known {
		if d := distance(name, k); d < least {
			nearest, least = k, d
		}
	}
	if nearest == "" {
		return ""
	}
	return "; did you mean " + nearest + "?"
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
