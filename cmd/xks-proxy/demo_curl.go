package main

// Lines that a user can paste into a shell.

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

// curlLine is an Encrypt with nothing but curl (7.75 or later). The secret is read
// from its file by the shell, so that it stands on no screen.
func curlLine(d *demoDirectory, to *connectionFile) string {
	body := fmt.Sprintf(`{"requestMetadata":{"awsPrincipalArn":"arn:aws:iam::123456789012:user/demo","kmsKeyArn":%q,`+
		`"kmsOperation":"Encrypt","kmsRequestId":"pasted-by-hand"},"plaintext":%q,"encryptionAlgorithm":"AES_GCM"}`,
		exampleKeyARN(to.Region), base64.StdEncoding.EncodeToString([]byte("hello")))
	return strings.Join([]string{
		"curl --silent --show-error --cacert", shellQuote(d.ca()),
		"--aws-sigv4 aws:amz:" + to.Region + ":kms-xks-proxy",
		`--user "` + to.Credential.AccessKeyID + `:$(cat ` + shellQuote(d.secret()) + `)"`,
		"--header 'Content-Type: application/json'",
		`--write-out '\n'`,
		"--data", shellQuote(body),
		to.Endpoint + to.URIPath + keyURI(to.Keys[0], "encrypt"),
	}, " ")
}

// shellQuote makes one word of s for a POSIX shell, with quotes only where it needs them.
func shellQuote(s string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+:@%,="
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// programName is how the user called this program.
func programName() string { return os.Args[0] }
