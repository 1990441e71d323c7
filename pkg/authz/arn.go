package authz

// The parts of an ARN, and what the parts may look like.

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type arn struct{ partition, service, region, account, resource string }

// parseARN parses arn:partition:service:region:account:resource with an account of 12 digits. The
// region may be empty.
func parseARN(text string) (arn, bool) {
	if len(text) > maxText {
		return arn{}, false
	}
	var a arn
	rest, ok := strings.CutPrefix(text, "arn:")
	for _, part := range [...]*string{&a.partition, &a.service, &a.region, &a.account} {
		var found bool
		*part, rest, found = strings.Cut(rest, ":")
		ok = ok && found
	}
	a.resource = rest
	ok = ok && isPartition(a.partition) && isAccount(a.account) && isLabel(a.service) &&
		(a.region == "" || isLabel(a.region)) &&
		a.resource != ""
	return a, ok
}

// parseKMSKey returns the account and the region in the ARN of a KMS key.
func parseKMSKey(text string) (string, string, bool) {
	a, ok := parseARN(text)
	id, isKey := strings.CutPrefix(a.resource, "key/")
	ok = ok && isKey && a.service == "kms" && a.region != "" && id != "" && all(id, isKMSKeyByte)
	return a.account, a.region, ok
}

// serviceName returns the first label of a kmsViaService: "rds" for "rds" and for
// "rds.eu-west-1.amazonaws.com".
func serviceName(via string) (string, bool) {
	name, rest, dotted := strings.Cut(via, ".")
	return name, isLabel(name) && (!dotted || rest == "amazonaws.com" || isService(rest))
}

// isService reports whether text is a service principal, such as ec2.amazonaws.com, or AWS
// Internal.
func isService(text string) bool {
	if text == awsInternal {
		return true
	}
	labels, ok := strings.CutSuffix(strings.TrimSuffix(text, ".cn"), ".amazonaws.com")
	if !ok || len(text) > maxService {
		return false
	}
	for label := range strings.SplitSeq(labels, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// isPartition reports whether text is aws, or aws with further words, such as aws-cn and
// aws-us-gov. It accepts partitions that AWS may add.
func isPartition(text string) bool {
	return text == "aws" ||
		(strings.HasPrefix(text, "aws-") && isLabel(text) && len(text) <= maxName)
}

func isAccount(text string) bool {
	return len(text) == 12 && all(text, isDigit)
}

// isLabel reports whether text has lower-case letters, digits and dashes only, as in names of
// services and regions.
func isLabel(text string) bool {
	return text != "" && len(text) <= maxName &&
		all(text, func(c byte) bool { return c >= 'a' && c <= 'z' || isDigit(c) || c == '-' })
}

// isName reports whether IAM allows text as the name of a user, role or session.
func isName(text string) bool {
	return text != "" && len(text) <= maxName && all(text, isNameByte)
}

// isRoleName reports whether text is a name, or one behind "aws:". AWS acts under such roles itself
// (aws:ec2-infrastructure); IAM allows a colon to nobody else.
func isRoleName(text string) bool {
	return isName(strings.TrimPrefix(text, "aws:"))
}

// isPath reports whether text is an IAM path, "/" or "/a/b/": printable ASCII without spaces.
func isPath(text string) bool {
	return len(text) <= maxPath && !strings.Contains(text, "//") &&
		all(text, func(c byte) bool { return c > ' ' && c < 0x7f })
}

func isNameByte(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("_+=,.@-", c) >= 0
}

func isKMSKeyByte(c byte) bool { return isAlphanumeric(c) || c == '-' }

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func all(text string, is func(byte) bool) bool {
	for i := range len(text) {
		if !is(text[i]) {
			return false
		}
	}
	return true
}

// isReadable reports whether a policy may see text as it is: not empty, at most 2048 bytes, UTF-8,
// without control characters.
func isReadable(text string) bool {
	return text != "" && len(text) <= maxText && utf8.ValidString(text) &&
		strings.IndexFunc(text, unicode.IsControl) < 0
}

// boundedText makes any text fit for an entity id or a log line: at most limit bytes and an
// ellipsis, valid UTF-8, with control characters replaced.
func boundedText(text string, limit int) string {
	end := ""
	if len(text) > limit {
		text, end = text[:limit], "…"
	}
	clean := func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}
	return strings.Map(clean, strings.ToValidUTF8(text, string(utf8.RuneError))) + end
}
