package config

// The shipped configuration, whole or reduced to what has to be given.

import (
	"bytes"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// WriteMinimal writes a commented configuration without what is left at its default, and without
// the comments between the lines.
func WriteMinimal(w io.Writer, commented []byte) error {
	var document yaml.Node
	err := yaml.Unmarshal(commented, &document)
	if err != nil {
		return fmt.Errorf("the example is not YAML: %w", err)
	}
	root := document.Content[0]
	dropComments(root)
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	err = encoder.Encode(root)
	if err != nil {
		return fmt.Errorf("the example cannot be written as YAML: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// dropComments keeps those at the end of a line, and drops keys without a value.
func dropComments(n *yaml.Node) {
	n.HeadComment, n.FootComment = "", ""
	var kept []*yaml.Node
	for i, child := range n.Content {
		isKey := n.Kind == yaml.MappingNode && i%2 == 0
		if isKey && n.Content[i+1].Tag == "!!null" || child.Tag == "!!null" {
			continue
		}
		dropComments(child)
		kept = append(kept, child)
	}
	n.Content = kept
}
