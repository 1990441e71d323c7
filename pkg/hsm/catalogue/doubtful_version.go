package catalogue

// Versions that look wrong on one HSM: a CKA_ID that does not fit the version rule, and a version
// number that looks accidental.

import (
	"fmt"
	"slices"
	"strings"

	"xks-proxy/pkg/hsm"
)

// farVersion is the gap to the next lower version, or to 0, above which a version looks accidental.
// Counters and dates (20261129) stay below; random four-byte CKA_IDs rarely do.
const farVersion = 100_000_000

// doubtfulVersions lists the doubtful versions of one label. The caller sets Since.
func doubtfulVersions(label string, views []View) []Finding {
	var found []Finding
	highest := uint32(0)
	for _, v := range views {
		for _, o := range v.Objects {
			if !v.Seen || !o.IsAES256() {
				continue
			}
			highest = max(highest, o.Version())
			if o.Doubtful() && v.count(o.Version()) == 1 { // else compare reports the duplicate
				found = addDoubt(found, label, v, o)
			}
		}
	}
	if highest > farVersion {
		found = append(found, farVersions(label, views)...)
	}
	return found
}

// addDoubt adds one finding for all HSMs that hold an object with the same version.
func addDoubt(found []Finding, label string, v View, o hsm.Object) []Finding {
	detail := doubtDetail(o)
	for i := range found {
		if found[i].Version != o.Version() {
			continue
		}
		found[i].HSMs = append(found[i].HSMs, v.Name)
		if !strings.Contains(found[i].Detail, detail) {
			found[i].Detail += "; on " + v.Name + ": " + detail
		}
		return found
	}
	return append(
		found,
		Finding{
			Kind:    VersionDoubtful,
			Label:   label,
			Version: o.Version(),
			HSMs:    []string{v.Name},
			Detail:  detail,
		},
	)
}

func doubtDetail(o hsm.Object) string {
	if o.Rule == hsm.VersionNumber {
		return fmt.Sprintf(
			"CKA_ID 0x%X is larger than 4 bytes, so key_version id counts the object as "+
				"version %d: change its CKA_ID, "+
				"or set key_version none if CKA_ID means nothing here; "+
				"a second such object would stop Encrypt",
			o.ID,
			o.Version(),
		)
	}
	return fmt.Sprintf(
		"CKA_ID 0x%X is not 4 bytes long, so key_version id4 counts the object as version %d: "+
			"%s; a second such object would stop Encrypt",
		o.ID,
		o.Version(),
		readableBy(o),
	)
}

// readableBy names the setting under which the CKA_ID of an object is a version.
func readableBy(o hsm.Object) string {
	number, sure := hsm.VersionNumber.Read(o.ID)
	if !sure {
		return "set key_version none if CKA_ID means nothing here, or change the CKA_ID"
	}
	return fmt.Sprintf(
		"set key_version id to read it as version %d, or change the CKA_ID to 0x%X",
		number,
		hsm.VersionID(number),
	)
}

// farVersions reports versions that are far above the next lower one.
func farVersions(label string, views []View) []Finding {
	var found []Finding
	below := uint32(0)
	for _, number := range versionsOf(views) {
		if number-below > farVersion {
			holders, _ := splitViews(views, func(v View) bool { return v.count(number) > 0 })
			found = append(
				found,
				Finding{
					Kind:    VersionImplausible,
					Label:   label,
					Version: number,
					HSMs:    names(holders),
					Detail: fmt.Sprintf(
						"version %d (CKA_ID 0x%X) is far above %s, so that a later rotation "+
							"with a lower number is never encrypted under; "+
							"if the number was not chosen as a version, "+
							"change the CKA_ID on every HSM before more is encrypted, "+
							"or set key_version none",
						number,
						hsm.VersionID(number),
						lowerNeighbour(below),
					),
				},
			)
		}
		below = number
	}
	return found
}

func lowerNeighbour(below uint32) string {
	if below == 0 {
		return "0"
	}
	return fmt.Sprintf("the next lower version %d", below)
}

// duplicateRemedy says how to fix several objects for one version.
func duplicateRemedy(double []View, number uint32) string {
	for _, v := range double {
		if !distinctNumbers(v, number) {
			return "delete or relabel all but one"
		}
	}
	return "set key_version id, which reads them as different versions, " +
		"or delete or relabel all but one"
}

// distinctNumbers reports whether VersionNumber gives each object of a version its own number.
func distinctNumbers(v View, number uint32) bool {
	var numbers []uint32
	for _, o := range v.Objects {
		if !o.IsAES256() || o.Version() != number {
			continue
		}
		n, sure := hsm.VersionNumber.Read(o.ID)
		if !sure || o.Rule == hsm.VersionNumber || o.Rule == hsm.VersionNone ||
			slices.Contains(numbers, n) {
			return false
		}
		numbers = append(numbers, n)
	}
	return true
}
