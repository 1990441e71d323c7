package main

// Replies for eyes.

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode"
	"unicode/utf8"
	"xks-proxy/internal/text"
)

// printReply prints what came of a request.
func printReply(w io.Writer, to connection, a asked, reply *xksReply, err error) {
	where := to.url()
	if to.Dial != "" {
		where += " (" + to.Dial + ")"
	}
	fmt.Fprintf(w, "%s at %s\n", a.title, where)
	if reply == nil {
		return // the error says it all
	}
	rows := []text.Row{
		{"status", fmt.Sprintf("%d %s over %s, %s", reply.Status, http.StatusText(reply.Status), reply.Protocol, reply.TLS)},
		{"time", timeTaken(reply)},
	}
	var refused *xksError
	if !errors.As(err, &refused) {
		text.PrintRows(w, append(rows, a.rows(err)...))
		return
	}
	if refused.Name != "" {
		rows = append(rows, text.Row{"error", refused.Name}, text.Row{"message", refused.Message})
	}
	if known := advice[refused.Name]; known != "" {
		rows = append(rows, text.Row{"what to do", known})
	}
	text.PrintRows(w, rows)
}

func timeTaken(r *xksReply) string {
	s := "request " + text.Milliseconds(r.Request)
	if r.Connect > 0 {
		s = "connection " + text.Milliseconds(r.Connect) + ", " + s
	}
	if r.Connect+r.Request > kmsPatience {
		s += " (AWS KMS would have given up after 250 ms)"
	}
	return s
}

func encryptRows(a encryptAnswer, err error) []text.Row {
	rows := []text.Row{
		{"ciphertext", bytesText(a.Ciphertext)},
		{"IV", bytesText(a.IV)},
		{"tag", bytesText(a.Tag)},
		{"metadata", bytesText(a.CiphertextMetadata) + versionText(a.CiphertextMetadata)},
	}
	switch {
	case err != nil:
		rows = append(rows, text.Row{"check", "FAILED"})
	case a.CDIV != nil:
		rows = append(rows, text.Row{"CDIV", bytesText(a.CDIV) + ", verified"})
	}
	return rows
}

// versionText reads our own ciphertextMetadata, which begins with format 1.
func versionText(metadata []byte) string {
	if len(metadata) != 5 || metadata[0] != 1 {
		return ""
	}
	return fmt.Sprintf(", key version %d", binary.BigEndian.Uint32(metadata[1:]))
}

func plaintextRows(plaintext []byte) []text.Row {
	rows := []text.Row{{"plaintext", bytesText(plaintext)}}
	if len(plaintext) > 0 && isText(plaintext) {
		rows = append(rows, text.Row{"as text", shortened(string(plaintext))})
	}
	return rows
}

func healthRows(a healthAnswer) []text.Row {
	rows := []text.Row{
		{"proxy", fmt.Sprintf("%s, %s; fleet of %d", a.Vendor, a.Model, a.FleetSize)},
		{"HSM vendor", a.EKMVendor},
	}
	for _, m := range a.Fleet {
		rows = append(rows, text.Row{m.ID, m.Status + " (" + m.Model + ")"})
	}
	return rows
}

// bytesText is a length and Base64, on one line of a terminal.
func bytesText(b []byte) string {
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
