package command

// Completion of names in a shell: HSMs, key stores, groups and keys, as the running proxy knows
// them, or else as the configuration has them. A shell waits for it, so it takes a moment at most.

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

const (
	CompletionPatience = time.Second // then nothing is offered
	maxCompletions     = 500         // names offered at once
)

// completion is the function that cobra calls when a shell asks.
type completion = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// asking gets names from a running proxy.
type asking func(ctx context.Context, client *api.Client) ([]string, error)

// Offer runs find for a moment, and offers the names that begin as the user has begun. A find that
// hangs, as on a dead file system, is left behind.
func Offer(
	ctx context.Context,
	begun string,
	find func(context.Context) []string,
) ([]string, cobra.ShellCompDirective) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, CompletionPatience)
	defer cancel()
	found := make(chan []string, 1)
	go func() { found <- find(ctx) }()
	var names []string
	select {
	case names = <-found:
	case <-ctx.Done():
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, begun) || strings.ContainsAny(name, "\t\n")
	})
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxCompletions)], cobra.ShellCompDirectiveNoFileComp
}

// names are the names that pick finds in the configuration. Mistakes in it do not matter here.
func (f *ConfigFlag) names(pick func(*config.Config) []string) []string {
	path, err := f.Find()
	if err != nil {
		return nil
	}
	l, err := config.LoadFile(path)
	if err != nil {
		return nil
	}
	return pick(l.Config)
}

// Complete offers what the configuration has. It reads no secret.
func (f *ConfigFlag) Complete(pick func(*config.Config) []string) completion {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return Offer(c.Context(), begun, func(context.Context) []string { return f.names(pick) })
	}
}

// completeRunning offers what the running proxy knows, or else what the configuration has.
func (f *ProxyFlags) completeRunning(ask asking, pick func(*config.Config) []string) completion {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return Offer(c.Context(), begun, func(ctx context.Context) []string {
			client, err := f.Client()
			if err == nil {
				var names []string
				names, err = ask(ctx, client)
				if err == nil {
					return names
				}
			}
			return f.names(pick)
		})
	}
}

// OnlyFirst completes the first argument, and offers nothing for more.
func OnlyFirst(complete completion) completion {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(c, args, begun)
	}
}

// CompleteFlag completes the value of a flag, which exists.
func CompleteFlag(c *cobra.Command, flag string, complete completion) {
	err := c.RegisterFlagCompletionFunc(flag, complete)
	if err != nil {
		panic(err)
	}
}

// CompleteHSMs offers the names of HSMs.
func (f *ProxyFlags) CompleteHSMs() completion {
	return f.completeRunning(func(ctx context.Context, client *api.Client) ([]string, error) {
		status, _, err := client.List(ctx)
		var names []string
		for name := range status.Processes {
			names = append(names, name)
		}
		return names, err
	}, ConfiguredHSMs)
}

// ConfiguredHSMs are the names of the HSMs of a configuration.
func ConfiguredHSMs(c *config.Config) []string {
	var names []string
	for _, h := range c.HSMs {
		names = append(names, h.Name)
	}
	return names
}

// CompleteKeyStores offers the names of key stores.
func (f *ProxyFlags) CompleteKeyStores() completion {
	return f.completeRunning(func(ctx context.Context, client *api.Client) ([]string, error) {
		var uses api.CredentialUses
		_, err := client.Get(ctx, api.CredentialsPath, &uses)
		var names []string
		for _, use := range uses.Credentials {
			names = append(names, use.KeyStore)
		}
		return names, err
	}, ConfiguredKeyStores)
}

// ConfiguredKeyStores are the names of the key stores of a configuration.
func ConfiguredKeyStores(c *config.Config) []string {
	var names []string
	for _, k := range c.KeyStores {
		names = append(names, k.Name)
	}
	return names
}

func configuredAccessKeys(c *config.Config) []string {
	var ids []string
	for _, k := range c.KeyStores {
		for _, credential := range k.Credentials {
			ids = append(ids, credential.AccessKeyID)
		}
	}
	return ids
}

// CompleteGroups offers the names of HSM groups.
func (f *ProxyFlags) CompleteGroups() completion {
	return f.completeRunning(func(ctx context.Context, client *api.Client) ([]string, error) {
		status, _, err := client.List(ctx)
		var names []string
		for _, g := range status.Groups {
			names = append(names, g.Name)
		}
		return names, err
	}, func(c *config.Config) []string {
		var names []string
		for _, g := range c.HSMGroups {
			names = append(names, g.Name)
		}
		return names
	})
}

// CompleteKeys offers the CKA_LABELs of keys, or the external key ids of a key store. Only the
// running proxy knows them.
func (f *ProxyFlags) CompleteKeys(keyStore *string) completion {
	return f.completeRunning(func(ctx context.Context, client *api.Client) ([]string, error) {
		answer, _, err := client.Keys(ctx, api.KeyQuery{KeyStore: *keyStore})
		if err != nil {
			return nil, err
		}
		var names []string
		for _, k := range answer.Keys {
			if *keyStore == "" && hsm.ShowLabel(k.ExactLabel()) == k.ExactLabel() {
				names = append(names, k.ExactLabel())
			}
			for _, store := range k.KeyStores {
				if store.Name == *keyStore {
					names = append(names, store.KeyID)
				}
			}
		}
		return names, nil
	}, func(*config.Config) []string { return nil })
}

// CompleteStates offers the states of keys.
func CompleteStates(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, state := range catalogue.KeyStates() {
		names = append(names, string(state))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func completeYAML(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}
