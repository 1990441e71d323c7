package request

// Replies for eyes.

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode"
	"unicode/utf8"

	"xks-proxy/internal/config"
	"xks-proxy/internal/text"
	"xks-proxy/internal/xksclient"
)

// printReply prints what came of a request.
func printReply(w io.Writer, to xksclient.Connection, a asked, reply *xksclient.Reply, err error) {
	where := to.URL()
	if to.Dial != "" {
		where += " (" + to.Dial + ")"
	}
	fmt.Fprintf(w, "%s at %s\n", a.title, where)
	if reply == nil {
		return // the error says it all
	}
	rows := []text.Row{
		{
			"status",
			fmt.Sprintf(
				"%d %s over %s, %s",
				reply.Status,
				http.StatusText(reply.Status),
				reply.Protocol,
				reply.TLS,
			),
		},
		{"time", timeTaken(reply)},
	}
	var refused *xksclient.Error
	if !errors.As(err, &refused) {
		text.PrintRows(w, append(rows, a.rows(err)...))
		return
	}
	if refused.Name != "" {
		rows = append(rows, text.Row{"error", refused.Name}, text.Row{"message", refused.Message})
	}
	if known := xksclient.Advice[refused.Name]; known != "" {
		rows = append(rows, text.Row{"what to do", known})
	}
	text.PrintRows(w, rows)
}

func timeTaken(r *xksclient.Reply) string {
	s := "request " + text.Milliseconds(r.Request)
	if r.Connect > 0 {
		s = "connection " + text.Milliseconds(r.Connect) + ", " + s
	}
	if r.Connect+r.Request > config.KMSPatience {
		s += " (AWS KMS would have given up after 250 ms)"
	}
	return s
}

func encryptRows(a xksclient.EncryptAnswer, err error) []text.Row {
	rows := []text.Row{
		{"ciphertext", BytesText(a.Ciphertext)},
		{"IV", BytesText(a.IV)},
		{"tag", BytesText(a.Tag)},
		{"metadata", BytesText(a.CiphertextMetadata) + xksclient.VersionText(a.CiphertextMetadata)},
	}
	switch {
	case err != nil:
		rows = append(rows, text.Row{"check", "FAILED"})
	case a.CDIV != nil:
		rows = append(rows, text.Row{"CDIV", BytesText(a.CDIV) + ", verified"})
	}
	return rows
}

// PlaintextRows are the rows that show a plaintext: in Base64 and, if it is text, as text.
func PlaintextRows(plaintext []byte) []text.Row {
	rows := []text.Row{{"plaintext", BytesText(plaintext)}}
	if len(plaintext) > 0 && isText(plaintext) {
		rows = append(rows, text.Row{"as text", shortened(string(plaintext))})
	}
	return rows
}

func healthRows(a xksclient.HealthAnswer) []text.Row {
	rows := []text.Row{
		{"proxy", fmt.Sprintf("%s, %s; fleet of %d", a.Vendor, a.Model, a.FleetSize)},
		{"HSM vendor", a.EKMVendor},
	}
	for _, m := range a.Fleet {
		rows = append(rows, text.Row{m.ID, m.Status + " (" + m.Model + ")"})
	}
	return rows
}

// BytesText is a length and Base64, on one line of a terminal.
func BytesText(b []byte) string {
	if len(b) == 0 {
		return "empty"
	}
	unit := "bytes"
	if len(b) == 1 {
		unit = "byte"
	}
	return fmt.Sprintf("%d %s  %s", len(b), unit, shortened(base64.StdEncoding.EncodeToString(b)))
}

const shownLength = 64 // characters

func shortened(s string) string {
	if utf8.RuneCountInString(s) <= shownLength {
		return s
	}
	return string([]rune(s)[:shownLength]) + "…"
}

func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
