package main

// What the demo shows: all four operations really done, over HTTPS, signed.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	demoPlaintext = "Hello from your HSMs!"
	demoAAD       = "any context that belongs to it"
)

// showDemo starts the proxy, checks it, and serves until ctx ends or the checks are done.
func showDemo(ctx context.Context, d *demoDirectory, to *connectionFile, exit bool, out io.Writer) error {
	client, err := newXKSClient(to.connection(), false, 5*time.Second)
	if err != nil {
		return err
	}
	defer client.close()
	fmt.Fprintf(out, "\nStarting the proxy at %s\n", client.to.url())
	start := time.Now()
	proxy, err := startDemoProxy(d)
	if err != nil {
		return err
	}
	err = proxy.waitReady(ctx, client)
	if err != nil {
		return errors.Join(err, proxy.stop())
	}
	printRows(out, []row{
		{"ready", "after " + seconds(time.Since(start)) + ", with both HSMs"},
		{"process", fmt.Sprintf("%d, and one for each HSM", proxy.pid)},
		{"log", d.log()},
	})
	err = checkDemo(ctx, client, to.Keys[0], out)
	if err != nil {
		return errors.Join(err, proxy.stop())
	}
	client.close() // an idle HTTP/2 connection delays the end of the proxy by a second
	if exit {
		err := proxy.stop()
		if err == nil {
			fmt.Fprint(out, "\nAll checks passed; the proxy is stopped.\n")
		}
		return err
	}
	printHints(out, d, to)
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

// demoCheck is one line of what is shown.
type demoCheck struct {
	name string
	do   func(context.Context) (reply *xksReply, result string, err error)
}

// checkDemo asks for everything that AWS KMS asks for, and compares.
func checkDemo(ctx context.Context, client *xksClient, key string, out io.Writer) error {
	fmt.Fprintf(out, "\nAsking it what AWS KMS asks, signed, over HTTPS\n")
	for _, check := range demoChecks(client, key) {
		reply, result, err := check.do(ctx)
		var late *xksError
		again := ""
		if errors.As(err, &late) && late.Name == "DependencyTimeoutException" {
			reply, result, err = check.do(ctx)
			again = " (second try, which AWS KMS makes as well)"
		}
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			fmt.Fprintf(out, "  %-15s FAILED\n", check.name)
			return fmt.Errorf("%s: %w", check.name, err)
		}
		fmt.Fprintf(out, "  %-15s %8s  %s%s\n", check.name, milliseconds(reply.Connect+reply.Request), result, again)
	}
	return nil
}

func demoChecks(client *xksClient, key string) []demoCheck {
	var sealed encryptAnswer
	encrypt := func(ctx context.Context, cdiv string) (*xksReply, encryptAnswer, error) {
		request := encryptRequest{
			Metadata: demoMetadata(client.to, "Encrypt"), Algorithm: algorithmAESGCM, CDIVAlgorithm: cdiv,
			Plaintext: []byte(demoPlaintext), AAD: []byte(demoAAD),
		}
		var answer encryptAnswer
		reply, err := client.call(ctx, keyURI(key, "encrypt"), request, &answer)
		if err != nil {
			return reply, answer, err
		}
		return reply, answer, answer.check(request)
	}
	return []demoCheck{
		{"GetHealthStatus", func(ctx context.Context) (*xksReply, string, error) {
			var answer healthAnswer
			reply, err := client.call(ctx, uriHealth, metadataRequest{Metadata: demoMetadata(client.to, "KmsHealthCheck")}, &answer)
			if err != nil {
				return reply, "", err
			}
			return reply, healthText(answer), allActive(answer)
		}},
		{"GetKeyMetadata", func(ctx context.Context) (*xksReply, string, error) {
			var answer metadataAnswer
			reply, err := client.call(ctx, keyURI(key, "metadata"), metadataRequest{Metadata: demoMetadata(client.to, "CreateKey")}, &answer)
			if err == nil && (answer.Spec != "AES_256" || answer.Status != "ENABLED") {
				err = fmt.Errorf("%s is %s and %s, which AWS KMS would refuse", key, answer.Spec, answer.Status)
			}
			return reply, fmt.Sprintf("%s: %s, %s, %s", key, answer.Spec, answer.Status, strings.Join(answer.Usage, " ")), err
		}},
		{"Encrypt", func(ctx context.Context) (*xksReply, string, error) {
			reply, answer, err := encrypt(ctx, "")
			sealed = answer
			return reply, fmt.Sprintf("%q is %s%s", demoPlaintext, shortBytes(answer.Ciphertext), versionText(answer.CiphertextMetadata)), err
		}},
		{"Decrypt", func(ctx context.Context) (*xksReply, string, error) {
			var answer decryptAnswer
			request := sealed.decryptRequest(demoMetadata(client.to, "Decrypt"), []byte(demoAAD))
			reply, err := client.call(ctx, keyURI(key, "decrypt"), request, &answer)
			if err == nil && !bytes.Equal(answer.Plaintext, []byte(demoPlaintext)) {
				err = errors.New("the plaintext is another one than was encrypted")
			}
			return reply, fmt.Sprintf("%q again", answer.Plaintext), err
		}},
		{"Encrypt, CDIV", func(ctx context.Context) (*xksReply, string, error) {
			reply, _, err := encrypt(ctx, algorithmSHA256)
			return reply, "the integrity value over what was answered is right", err
		}},
	}
}

// demoMetadata is what AWS KMS would say of a call.
func demoMetadata(to connection, operation string) callMetadata {
	return callMetadata{
		PrincipalARN: "arn:aws:iam::123456789012:user/demo", KeyARN: exampleKeyARN(to.Region),
		Operation: operation, RequestID: uuid.NewString(),
	}
}

func allActive(a healthAnswer) error {
	active := 0
	for _, m := range a.Fleet {
		if m.Status == "ACTIVE" {
			active++
		}
	}
	if active == 2 && len(a.Fleet) == 2 {
		return nil
	}
	return fmt.Errorf("not both HSMs are ACTIVE: %s", orNothing(healthText(a)))
}

func healthText(a healthAnswer) string {
	var parts []string
	for _, m := range a.Fleet {
		parts = append(parts, m.ID+" "+m.Status)
	}
	return strings.Join(parts, ", ")
}

// shortBytes is the beginning of some bytes, in hex.
func shortBytes(b []byte) string {
	const shown = 8
	if len(b) <= shown {
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprintf("%x… (%d bytes)", b[:shown], len(b))
}

// printHints says what the user can do now.
func printHints(out io.Writer, d *demoDirectory, to *connectionFile) {
	fmt.Fprintf(out, "\nTry it yourself, in another terminal:\n\n%s\n\n", curlLine(d, to))
	connection := ""
	if relative, err := filepath.Rel(workingDirectory(), d.connection()); err != nil || relative != filepath.Join(defaultDemoDirectory, connectionFileName) {
		connection = " --connection " + shellQuote(d.connection())
	}
	fmt.Fprintf(out, "%s request encrypt%s --plaintext hello --cdiv\n", shellQuote(programName()), connection)
	fmt.Fprintf(out, "%s hsm list \\\n    --config %s\n", shellQuote(programName()), shellQuote(d.config()))
	fmt.Fprint(out, "\nThe keys were made by this demo and put on both tokens. Real pairs of HSMs replicate keys by\n"+
		"their vendor's own means.\n\nServing until Ctrl-C.\n")
}
