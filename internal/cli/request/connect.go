package request

// The flags that say where requests go, put together with a connection file or a configuration.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/demo"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/xksclient"
	"xks-proxy/pkg/sigv4"
)

// configured is the connection to a key store of the configuration: at the local listener, unless
// --endpoint names another way to it.
func (f *connectionFlags) configured(
	ctx context.Context,
	warnings io.Writer,
) (xksclient.Connection, error) {
	l, store, err := f.choice.Load()
	if err != nil {
		return xksclient.Connection{}, err
	}
	names, err := certificateOf(l.Config, store)
	if err != nil && f.endpoint == "" {
		return xksclient.Connection{}, err
	}
	to := xksclient.Connection{
		URIPath:        xksclient.CompletePath(store.PathPrefix),
		CACertificates: names.files,
		TrustMachine:   true,
	}
	if len(store.Regions) > 0 {
		to.Region = store.Regions[0]
	}
	if f.endpoint == "" {
		to.Endpoint, to.Dial, err = localEndpoint(l.Config, names.host)
		if err != nil {
			return xksclient.Connection{}, err
		}
	}
	if f.secretFile != "" {
		return to, nil // signed with what the flags say
	}
	key, err := f.choice.AccessKey(ctx, warnings, l, store, false)
	if err != nil {
		return xksclient.Connection{}, err
	}
	to.AccessKeyID, to.SecretAccessKey = key.ID, key.Secret
	f.accessKeyID = "" // it has chosen
	return to, nil
}

// connectionFlags are the flags that say where requests go.
type connectionFlags struct {
	file, endpoint, path, region, accessKeyID, secretFile, ca string
	choice                                                    command.KeyStoreChoice
}

func (f *connectionFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(
		&f.file,
		"connection",
		"",
		"JSON `FILE` with endpoint and access key, as the demo writes it",
	)
	flags.StringVar(&f.choice.File, "config", "", "configuration `FILE` of the proxy")
	flags.StringVar(
		&f.choice.Store,
		"key-store",
		"",
		"`NAME` of a key store in the configuration (needed if there are several)",
	)
	flags.StringVar(&f.endpoint, "endpoint", "", "`URL` of the proxy: https://name[:port]")
	flags.StringVar(
		&f.path,
		"path",
		"",
		"`path` of the key store, with or without /kms/xks/v1 at its end",
	)
	flags.StringVar(
		&f.region,
		"region",
		"",
		"AWS `region` to sign for (default: the key store's, or "+xksclient.DefaultRegion+")",
	)
	flags.StringVar(&f.accessKeyID, "access-key-id", "", "access key `id` to sign with")
	flags.StringVar(&f.secretFile, "secret-file", "", "`file` with the secret access key")
	flags.StringVar(
		&f.ca,
		"ca",
		"",
		"PEM `file` with the server's CA (default: those this machine trusts)",
	)
}

// connection puts file and flags together. It also returns the keys that a connection file
// names, of which the first is the default.
func (f *connectionFlags) connection(
	ctx context.Context,
	warnings io.Writer,
) (xksclient.Connection, []string, error) {
	c, keys, err := f.base(ctx, warnings)
	if err != nil {
		return xksclient.Connection{}, nil, err
	}
	override(&c.Endpoint, f.endpoint)
	override(&c.URIPath, f.path)
	override(&c.Region, f.region)
	override(&c.AccessKeyID, f.accessKeyID)
	if f.ca != "" {
		c.CACertificates, c.TrustMachine = []string{f.ca}, false
	}
	if c.Region == "" {
		c.Region = xksclient.DefaultRegion
	}
	if f.secretFile != "" {
		c.SecretAccessKey, err = secret.Ref{File: f.secretFile}.Read(ctx, "")
		if err != nil {
			return xksclient.Connection{}, nil, command.UsageError(
				fmt.Errorf("--secret-file: %w", err),
			)
		}
	}
	c.Endpoint, err = xksclient.CheckEndpoint(c.Endpoint)
	if err != nil {
		return xksclient.Connection{}, nil, command.UsageError(err)
	}
	c.URIPath = xksclient.CompletePath(c.URIPath)
	if c.AccessKeyID == "" || c.SecretAccessKey.Reveal() == "" {
		return xksclient.Connection{}, nil, command.UsageError(
			errors.New(
				"nothing to sign with: give --access-key-id and --secret-file, or --connection",
			),
		)
	}
	err = sigv4.Credential{
		AccessKeyID:     c.AccessKeyID,
		SecretAccessKey: c.SecretAccessKey.Reveal(),
	}.Validate()
	if err != nil {
		return xksclient.Connection{}, nil, command.UsageError(
			fmt.Errorf("the credential to sign with (--access-key-id, --secret-file): %w", err),
		)
	}
	return c, keys, nil
}

// base is what the flags are added to: a connection file, a key store of the configuration, or
// nothing. What nobody named is only used if no flag says something else: a mixture of both would
// be a puzzle.
func (f *connectionFlags) base(
	ctx context.Context,
	warnings io.Writer,
) (xksclient.Connection, []string, error) {
	f.choice.AccessKeyID = f.accessKeyID
	switch chosen := f.choice.File != "" || f.choice.Store != ""; {
	case chosen && f.file != "":
		return xksclient.Connection{}, nil, command.UsageError(
			errors.New("--connection and --config both say where the proxy is: give one"),
		)
	case chosen:
		c, err := f.configured(ctx, warnings)
		return c, nil, err
	case f.file != "":
		return readBase(f.file)
	case f.endpoint != "" || f.path != "" || f.accessKeyID != "" || f.secretFile != "" || f.ca != "":
		return xksclient.Connection{}, nil, nil
	}
	path := filepath.Join(demo.DefaultDirectory, xksclient.FileName)
	_, err := os.Stat(path)
	if !errors.Is(err, os.ErrNotExist) {
		return readBase(path)
	}
	_, err = f.choice.Find()
	if errors.Is(err, os.ErrNotExist) {
		return xksclient.Connection{}, nil, command.UsageError(
			fmt.Errorf("no proxy to ask: there is no %s here, and no %s; "+
				"give --config FILE and --key-store NAME, or --connection FILE, or --endpoint, "+
				"--path, --access-key-id and --secret-file",
				path, command.DefaultConfigFile),
		)
	}
	c, err := f.configured(ctx, warnings)
	return c, nil, err
}

func readBase(path string) (xksclient.Connection, []string, error) {
	c, err := xksclient.ReadConnectionFile(path)
	if err != nil {
		return xksclient.Connection{}, nil, command.UsageError(fmt.Errorf("--connection: %w", err))
	}
	return c.Connection(), c.Keys, nil
}

func override(value *string, flag string) {
	if flag != "" {
		*value = flag
	}
}
