package request

// The four requests: their flags, what they send, how their answers read.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/text"
	"xks-proxy/internal/xksclient"
)

func newRequestEncrypt(o *requestOptions) *cobra.Command {
	var key string
	var plaintext, aad inputFlags
	var cdiv bool
	c := &cobra.Command{
		Use:   "encrypt",
		Short: "Encrypt a few bytes",
		Long: "encrypt has an HSM encrypt a text, a file or Base64. With --cdiv the proxy " +
			"verifies what it\n" +
			"made and adds a ciphertext data integrity value, which is checked here.",
		Args: command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			client, key, err := o.prepare(c, key)
			if err != nil {
				return err
			}
			request := xksclient.EncryptRequest{Algorithm: xksclient.AlgorithmAESGCM}
			request.Plaintext, err = plaintext.required(c.InOrStdin())
			if err != nil {
				return err
			}
			request.AAD, err = aad.optional(c.InOrStdin())
			if err != nil {
				return err
			}
			if cdiv {
				request.CDIVAlgorithm = xksclient.AlgorithmSHA256
			}
			return o.perform(c, client, o.encrypt(client, key, request))
		},
	}
	addKeyFlag(c, &key)
	plaintext.register(c, "plaintext", "plaintext")
	aad.register(c, "aad", "additional authenticated data")
	c.Flags().
		BoolVar(&cdiv, "cdiv", false, "ask for a ciphertext data integrity value and verify it")
	return c
}

func (o *requestOptions) encrypt(
	client *xksclient.Client,
	key string,
	request xksclient.EncryptRequest,
) asked {
	var answer xksclient.EncryptAnswer
	return asked{
		title: "encrypt with " + key,
		send: func(ctx context.Context) (*xksclient.Reply, error) {
			answer = xksclient.EncryptAnswer{}
			request.Metadata = o.metadataFor("Encrypt", client.To.Region)
			reply, err := client.Call(ctx, xksclient.KeyURI(key, "encrypt"), request, &answer)
			if err != nil {
				return reply, err
			}
			return reply, answer.Check(request)
		},
		rows: func(err error) []text.Row { return encryptRows(answer, err) },
	}
}

func newRequestDecrypt(o *requestOptions) *cobra.Command {
	var key, file string
	var aad inputFlags
	c := &cobra.Command{
		Use:   "decrypt",
		Short: "Decrypt the output of encrypt",
		Long:  "decrypt has an HSM decrypt the JSON that `request encrypt --json` printed. Key and AAD must be\nthose of the encrypt.",
		Args:  command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			client, key, err := o.prepare(c, key)
			if err != nil {
				return err
			}
			additional, err := aad.optional(c.InOrStdin())
			if err != nil {
				return err
			}
			if aad.file == "-" && file == "-" {
				return command.UsageError(
					errors.New(
						"--aad-file and --ciphertext-file cannot both be read from standard input",
					),
				)
			}
			sealed, err := readCiphertext(c.InOrStdin(), file)
			if err != nil {
				return err
			}
			return o.perform(c, client, o.decrypt(client, key, sealed, additional))
		},
	}
	addKeyFlag(c, &key)
	c.Flags().
		StringVar(&file, "ciphertext-file", "-", "`file` with the JSON of an encrypt; - is standard input")
	aad.register(c, "aad", "additional authenticated data")
	return c
}

func (o *requestOptions) decrypt(
	client *xksclient.Client,
	key string,
	sealed xksclient.EncryptAnswer,
	aad []byte,
) asked {
	var answer xksclient.DecryptAnswer
	return asked{
		title: "decrypt with " + key,
		send: func(ctx context.Context) (*xksclient.Reply, error) {
			answer = xksclient.DecryptAnswer{}
			request := sealed.DecryptRequest(o.metadataFor("Decrypt", client.To.Region), aad)
			return client.Call(ctx, xksclient.KeyURI(key, "decrypt"), request, &answer)
		},
		rows: func(error) []text.Row { return PlaintextRows(answer.Plaintext) },
	}
}

func newRequestMetadata(o *requestOptions) *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "metadata",
		Short: "Get the metadata of a key",
		Long: "metadata asks for specification, usage and status of a key, as AWS KMS does when " +
			"a KMS key is made\nfrom it: it must be AES_256, ENABLED, and allow ENCRYPT and " +
			"DECRYPT.",
		Args: command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			client, key, err := o.prepare(c, key)
			if err != nil {
				return err
			}
			var answer xksclient.MetadataAnswer
			return o.perform(c, client, asked{
				title: "metadata of " + key,
				send: func(ctx context.Context) (*xksclient.Reply, error) {
					answer = xksclient.MetadataAnswer{}
					request := xksclient.MetadataRequest{
						Metadata: o.metadataFor("CreateKey", client.To.Region),
					}
					return client.Call(ctx, xksclient.KeyURI(key, "metadata"), request, &answer)
				},
				rows: func(error) []text.Row {
					return []text.Row{
						{"key spec", answer.Spec},
						{"key usage", cmp.Or(strings.Join(answer.Usage, ", "), "none")},
						{"key status", answer.Status},
					}
				},
			})
		},
	}
	addKeyFlag(c, &key)
	return c
}

func newRequestHealth(o *requestOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Get the health of the proxy and its HSMs",
		Long: "health asks for the state of the proxy and of every HSM that serves the key " +
			"store, as AWS KMS does\nwhen the key store is connected, and now and then.",
		Args: command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			client, _, err := o.client(c)
			if err != nil {
				return err
			}
			var answer xksclient.HealthAnswer
			return o.perform(c, client, asked{
				title: "health",
				send: func(ctx context.Context) (*xksclient.Reply, error) {
					answer = xksclient.HealthAnswer{}
					request := xksclient.MetadataRequest{
						Metadata: o.metadataFor("KmsHealthCheck", client.To.Region),
					}
					return client.Call(ctx, xksclient.HealthURI, request, &answer)
				},
				rows: func(error) []text.Row { return healthRows(answer) },
			})
		},
	}
}

func addKeyFlag(c *cobra.Command, key *string) {
	c.Flags().
		StringVar(key, "key", "", "external key `ID` (default: the first key of the connection file)")
}

// client makes the client that the flags ask for, and gives the keys of the
// connection file.
func (o *requestOptions) client(c *cobra.Command) (*xksclient.Client, []string, error) {
	err := o.check()
	if err != nil {
		return nil, nil, err
	}
	to, keys, err := o.to.connection(c.Context(), c.ErrOrStderr())
	if err != nil {
		return nil, nil, err
	}
	client, err := xksclient.New(to, o.http1, o.timeout)
	if err != nil {
		return nil, nil, command.UsageError(fmt.Errorf("--ca: %w", err))
	}
	return client, keys, nil
}

// prepare is client for a request about a key.
func (o *requestOptions) prepare(c *cobra.Command, key string) (*xksclient.Client, string, error) {
	client, keys, err := o.client(c)
	if err != nil {
		return nil, "", err
	}
	if key == "" && len(keys) > 0 {
		key = keys[0]
	}
	if key == "" {
		return nil, "", command.UsageError(
			errors.New(
				"which key? Give --key with an external key id (xks-proxy keys list --attributes " +
					"prints them)",
			),
		)
	}
	return client, key, nil
}
