package demo

// What the user can do while the demo serves: lines to paste into another terminal.

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"xks-proxy/internal/guarded"
	"xks-proxy/internal/text"
	"xks-proxy/internal/xksclient"
	"xks-proxy/pkg/xks"
)

// demoShell writes commands for the user's shell. They work from the directory that this program
// was started in, to which paths below it are relative: short enough to read.
type demoShell struct {
	program string
	dir     *Directory
}

func newDemoShell(d *Directory) demoShell {
	return demoShell{program: shellProgram(os.Args[0]), dir: d}
}

// status asks the running proxy once more.
func (s demoShell) status() string {
	return s.program + " status --config " + s.path(s.dir.config())
}

// path is one word of the shell.
func (s demoShell) path(path string) string {
	return text.ShellQuote(belowWorkingDirectory(path))
}

// printHints says what the user can do now.
func (s demoShell) printHints(out io.Writer, to *xksclient.ConnectionFile) {
	fmt.Fprint(out, "\nTry it yourself, in another terminal:\n\n")
	if here := workingDirectory(); here != "" {
		fmt.Fprintf(out, "cd %s\n", text.ShellQuote(here))
	}
	if s.dir.hasSocket() {
		fmt.Fprintf(
			out,
			"%s\n%s hsm list --config %s\n",
			s.status(),
			s.program,
			s.path(s.dir.config()),
		)
	}
	connection := ""
	if belowWorkingDirectory(
		s.dir.connection(),
	) != filepath.Join(
		DefaultDirectory,
		xksclient.FileName,
	) {
		connection = " --connection " + s.path(s.dir.connection())
	}
	fmt.Fprintf(out, "%s request encrypt%s --plaintext hello --cdiv\n", s.program, connection)
	fmt.Fprintf(out, "curl --write-out '\\n' http://%s/healthz/ready\n", addressOf(to.Health))
	fmt.Fprintf(
		out,
		"curl --silent http://%s/metrics | grep ^xks_proxy_requests\n",
		addressOf(to.Health),
	)
	fmt.Fprintln(out, s.curl(to))
	fmt.Fprint(
		out,
		"\nThe keys were made by this demo and put on both tokens. Real pairs of HSMs\n"+
			"replicate keys by their vendor's own means.\n\nServing until Ctrl-C.\n",
	)
}

// curl is an Encrypt with nothing but curl (7.75 or later). The secret is read from its file by the
// shell, so that it does not appear on the screen.
func (s demoShell) curl(to *xksclient.ConnectionFile) string {
	body := fmt.Sprintf(`{"requestMetadata":{
    "awsPrincipalArn":"arn:aws:iam::123456789012:user/demo",
    "kmsKeyArn":
  %q,
    "kmsOperation":"Encrypt","kmsRequestId":"pasted-by-hand"},
  "plaintext":%q,"encryptionAlgorithm":"AES_GCM"}`,
		xksclient.ExampleKeyARN(to.Region), base64.StdEncoding.EncodeToString([]byte("hello")))
	return strings.Join([]string{
		"curl --silent --show-error --cacert " + s.path(s.dir.ca()),
		"--aws-sigv4 aws:amz:" + to.Region + ":" + xks.Service,
		`--user "` + to.Credential.AccessKeyID + `:$(cat ` + s.path(s.dir.secret()) + `)"`,
		`--header 'Content-Type: application/json' --write-out '\n'`,
		"--data " + text.ShellQuote(body),
		to.Endpoint + to.URIPath + xksclient.KeyURI(to.Keys[0], "encrypt"),
	}, " \\\n  ")
}

// shellProgram is the word by which a shell in the working directory starts this program: as the
// user did, who found it in PATH or by its path.
func shellProgram(called string) string {
	if !strings.Contains(called, "/") {
		return text.ShellQuote(called)
	}
	path := belowWorkingDirectory(guarded.ResolvePath(workingDirectory(), called))
	if !strings.Contains(path, "/") {
		path = "./" + path
	}
	return text.ShellQuote(path)
}

// belowWorkingDirectory is a path as the working directory sees it, if it is below that.
func belowWorkingDirectory(path string) string {
	relative, err := filepath.Rel(workingDirectory(), path)
	if err != nil || !filepath.IsLocal(relative) {
		return path
	}
	return relative
}
