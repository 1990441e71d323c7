package main

// Completion of names in a shell: HSMs, key stores, groups and keys, as the running proxy knows
// them, or else as the configuration has them. A shell waits for it, so it takes a moment at most.

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

const (
	completionPatience = time.Second // then nothing is offered
	maxCompletions     = 500         // names offered at once
)

// completion is what cobra calls when a shell asks.
type completion = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// asking gets names from a running proxy.
type asking func(ctx context.Context, client *adminClient) ([]string, error)

// offer runs find for a moment, and offers the names that begin as the user has begun. A find that
// hangs, as on a dead file system, is left behind.
func offer(
	ctx context.Context,
	begun string,
	find func(context.Context) []string,
) ([]string, cobra.ShellCompDirective) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
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
func (f *configFlag) names(pick func(*config) []string) []string {
	path, err := f.find()
	if err != nil {
		return nil
	}
	l, err := loadFile(path)
	if err != nil {
		return nil
	}
	return pick(l.config)
}

// complete offers what the configuration has. It reads no secret.
func (f *configFlag) complete(pick func(*config) []string) completion {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return offer(c.Context(), begun, func(context.Context) []string { return f.names(pick) })
	}
}

// completeRunning offers what the running proxy knows, or else what the configuration has.
func (f *proxyFlags) completeRunning(ask asking, pick func(*config) []string) completion {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return offer(c.Context(), begun, func(ctx context.Context) []string {
			client, err := f.client()
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

// onlyFirst completes the first argument, and offers nothing for more.
func onlyFirst(complete completion) completion {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(c, args, begun)
	}
}

// completeFlag completes the value of a flag, which exists.
func completeFlag(c *cobra.Command, flag string, complete completion) {
	err := c.RegisterFlagCompletionFunc(flag, complete)
	if err != nil {
		panic(err)
	}
}

func (f *proxyFlags) completeHSMs() completion {
	return f.completeRunning(func(ctx context.Context, client *adminClient) ([]string, error) {
		status, _, err := client.list(ctx)
		var names []string
		for name := range status.Processes {
			names = append(names, name)
		}
		return names, err
	}, configuredHSMs)
}

func configuredHSMs(c *config) []string {
	var names []string
	for _, h := range c.HSMs {
		names = append(names, h.Name)
	}
	return names
}

func (f *proxyFlags) completeKeyStores() completion {
	return f.completeRunning(func(ctx context.Context, client *adminClient) ([]string, error) {
		var uses credentialUses
		_, err := client.get(ctx, adminCredentialsPath, &uses)
		var names []string
		for _, use := range uses.Credentials {
			names = append(names, use.KeyStore)
		}
		return names, err
	}, configuredKeyStores)
}

func configuredKeyStores(c *config) []string {
	var names []string
	for _, k := range c.KeyStores {
		names = append(names, k.Name)
	}
	return names
}

func configuredAccessKeys(c *config) []string {
	var ids []string
	for _, k := range c.KeyStores {
		for _, credential := range k.Credentials {
			ids = append(ids, credential.AccessKeyID)
		}
	}
	return ids
}

func (f *proxyFlags) completeGroups() completion {
	return f.completeRunning(func(ctx context.Context, client *adminClient) ([]string, error) {
		status, _, err := client.list(ctx)
		var names []string
		for _, g := range status.Groups {
			names = append(names, g.Name)
		}
		return names, err
	}, func(c *config) []string {
		var names []string
		for _, g := range c.HSMGroups {
			names = append(names, g.Name)
		}
		return names
	})
}

// completeKeys offers the CKA_LABELs of keys, or the external key ids of a key store. Only the
// running proxy knows them.
func (f *proxyFlags) completeKeys(keyStore *string) completion {
	return f.completeRunning(func(ctx context.Context, client *adminClient) ([]string, error) {
		answer, _, err := client.keys(ctx, keyQuery{KeyStore: *keyStore})
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
	}, func(*config) []string { return nil })
}

// completeStates offers the states of keys.
func completeStates(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, state := range catalogue.KeyStates() {
		names = append(names, string(state))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
