package demo

// What the demo shows: all four operations really done, over HTTPS, signed.

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"xks-proxy/internal/subprocess"
	"xks-proxy/internal/text"
	"xks-proxy/internal/xksclient"
)

const (
	demoPlaintext = "Hello HSM!"
	demoAAD       = "any context that belongs to it"
)

// showDemo starts the proxy, checks it, and serves until ctx ends or the checks are done.
func showDemo(
	ctx context.Context,
	d *Directory,
	to *xksclient.ConnectionFile,
	exit bool,
	out io.Writer,
) error {
	client, err := xksclient.New(to.Connection(), false, 5*time.Second)
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Fprintf(out, "\nStarting the proxy at %s\n", client.To.URL())
	start := time.Now()
	proxy, err := startDemoProxy(d)
	if err != nil {
		return err
	}
	err = proxy.waitReady(ctx, client)
	if err != nil {
		return errors.Join(err, proxy.stop())
	}
	text.PrintRows(out, []text.Row{
		{"ready", "after " + seconds(time.Since(start)) + ", with both HSMs"},
		{"process", fmt.Sprintf("%d, and one for each HSM", proxy.pid)},
		{"health port", "http://" + addressOf(to.Health) + ", /healthz/ready and /metrics"},
		{"log", d.log()},
	})
	err = checkDemo(ctx, client, to.Keys[0], out)
	if err != nil {
		return errors.Join(err, proxy.stop())
	}
	client.Close() // an idle HTTP/2 connection delays the end of the proxy by a second
	shell := newDemoShell(d)
	err = showStatus(ctx, shell, out)
	if err != nil {
		return errors.Join(err, proxy.stop())
	}
	if exit {
		err := proxy.stop()
		if err == nil {
			fmt.Fprint(out, "\nAll checks passed; the proxy is stopped.\n")
		}
		return err
	}
	shell.printHints(out, to)
	select {
	case <-ctx.Done():
		fmt.Fprint(out, "\nStopping … ")
		err := proxy.stop()
		if err == nil {
			fmt.Fprintln(out, "stopped.")
		}
		return err
	case <-proxy.ended:
		return proxy.endedError()
	}
}

// showStatus prints what "xks-proxy status" prints of the proxy. That something needs attention
// (exit code 1) is worth seeing, and no reason to end the demo.
func showStatus(ctx context.Context, shell demoShell, out io.Writer) error {
	if !shell.dir.hasSocket() {
		fmt.Fprint(
			out,
			"\nThe status cannot be shown: the path of this directory is too long for an admin "+
				"socket.\n",
		)
		return nil
	}
	fmt.Fprintf(out, "\n$ %s\n", shell.status())
	// It writes to our terminal itself, because it fits its lines to the terminal's width.
	_, said, err := subprocess.Child{
		Arguments: []string{"status", "--config", shell.dir.config()},
		Output:    out,
	}.Run(
		ctx,
	)
	switch {
	case ctx.Err() != nil:
		return subprocess.ErrInterrupted
	case err != nil && said != "":
		return fmt.Errorf("status: %s (%w)", said, err)
	}
	return nil
}

// demoCheck is one line of what is shown.
type demoCheck struct {
	name string
	do   func(context.Context) (reply *xksclient.Reply, result string, err error)
}

// checkDemo asks for everything that AWS KMS asks for, and compares.
func checkDemo(ctx context.Context, client *xksclient.Client, key string, out io.Writer) error {
	fmt.Fprintf(out, "\nAsking it what AWS KMS asks, signed, over HTTPS\n")
	for _, check := range demoChecks(client, key) {
		reply, result, err := check.do(ctx)
		var late *xksclient.Error
		again := ""
		if errors.As(err, &late) && late.Name == "DependencyTimeoutException" {
			reply, result, err = check.do(ctx)
			again = " (second try, which AWS KMS makes as well)"
		}
		if ctx.Err() != nil {
			return subprocess.ErrInterrupted
		}
		if err != nil {
			fmt.Fprintf(out, "  %-15s FAILED\n", check.name)
			return fmt.Errorf("%s: %w", check.name, err)
		}
		fmt.Fprintf(
			out,
			"  %-15s %8s  %s%s\n",
			check.name,
			text.Milliseconds(reply.Connect+reply.Request),
			result,
			again,
		)
	}
	return nil
}

func demoChecks(client *xksclient.Client, key string) []demoCheck {
	var sealed xksclient.EncryptAnswer
	encrypt := func(ctx context.Context, cdiv string) (*xksclient.Reply, xksclient.EncryptAnswer, error) {
		request := xksclient.EncryptRequest{
			Metadata: demoMetadata(
				client.To,
				"Encrypt",
			), Algorithm: xksclient.AlgorithmAESGCM, CDIVAlgorithm: cdiv,
			Plaintext: []byte(demoPlaintext), AAD: []byte(demoAAD),
		}
		var answer xksclient.EncryptAnswer
		reply, err := client.Call(ctx, xksclient.KeyURI(key, "encrypt"), request, &answer)
		if err != nil {
			return reply, answer, err
		}
		return reply, answer, answer.Check(request)
	}
	return []demoCheck{
		{"GetHealthStatus", func(ctx context.Context) (*xksclient.Reply, string, error) {
			var answer xksclient.HealthAnswer
			reply, err := client.Call(
				ctx,
				xksclient.HealthURI,
				xksclient.MetadataRequest{Metadata: demoMetadata(client.To, "KmsHealthCheck")},
				&answer,
			)
			if err != nil {
				return reply, "", err
			}
			return reply, healthText(answer), allActive(answer)
		}},
		{"GetKeyMetadata", func(ctx context.Context) (*xksclient.Reply, string, error) {
			var answer xksclient.MetadataAnswer
			reply, err := client.Call(
				ctx,
				xksclient.KeyURI(key, "metadata"),
				xksclient.MetadataRequest{Metadata: demoMetadata(client.To, "CreateKey")},
				&answer,
			)
			if err == nil && (answer.Spec != "AES_256" || answer.Status != "ENABLED") {
				err = fmt.Errorf(
					"%s is %s and %s, which AWS KMS would refuse",
					key,
					answer.Spec,
					answer.Status,
				)
			}
			return reply, fmt.Sprintf(
				"%s: %s, %s, %s",
				key,
				answer.Spec,
				answer.Status,
				strings.Join(answer.Usage, " "),
			), err
		}},
		{"Encrypt", func(ctx context.Context) (*xksclient.Reply, string, error) {
			reply, answer, err := encrypt(ctx, "")
			sealed = answer
			return reply, fmt.Sprintf(
				"%q is %s%s",
				demoPlaintext,
				shortBytes(answer.Ciphertext),
				xksclient.VersionText(answer.CiphertextMetadata),
			), err
		}},
		{"Decrypt", func(ctx context.Context) (*xksclient.Reply, string, error) {
			var answer xksclient.DecryptAnswer
			request := sealed.DecryptRequest(demoMetadata(client.To, "Decrypt"), []byte(demoAAD))
			reply, err := client.Call(ctx, xksclient.KeyURI(key, "decrypt"), request, &answer)
			if err == nil && !bytes.Equal(answer.Plaintext, []byte(demoPlaintext)) {
				err = errors.New("the plaintext is another one than was encrypted")
			}
			return reply, fmt.Sprintf("%q again", answer.Plaintext), err
		}},
		{"Encrypt, CDIV", func(ctx context.Context) (*xksclient.Reply, string, error) {
			reply, _, err := encrypt(ctx, xksclient.AlgorithmSHA256)
			return reply, "the integrity value of the answer is right", err
		}},
	}
}

// demoMetadata is what AWS KMS would say of a call.
func demoMetadata(to xksclient.Connection, operation string) xksclient.CallMetadata {
	return xksclient.CallMetadata{
		PrincipalARN: "arn:aws:iam::123456789012:user/demo", KeyARN: xksclient.ExampleKeyARN(to.Region),
		Operation: operation, RequestID: uuid.NewString(),
	}
}

func allActive(a xksclient.HealthAnswer) error {
	active := 0
	for _, m := range a.Fleet {
		if m.Status == "ACTIVE" {
			active++
		}
	}
	if active == 2 && len(a.Fleet) == 2 {
		return nil
	}
	return fmt.Errorf("not both HSMs are ACTIVE: %s", cmp.Or(healthText(a), "none"))
}

func healthText(a xksclient.HealthAnswer) string {
	var parts []string
	for _, m := range a.Fleet {
		parts = append(parts, m.ID+" "+m.Status)
	}
	return strings.Join(parts, ", ")
}

// shortBytes is the beginning of some bytes, in hex.
func shortBytes(b []byte) string {
	const shown = 4
	if len(b) <= shown {
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprintf("%x… (%d bytes)", b[:shown], len(b))
}
