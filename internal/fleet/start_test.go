package fleet

// When serving begins and when it does not, by what has become of each HSM.

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
	"xks-proxy/pkg/hsm"
)

func TestJudge(t *testing.T) {
	away := &hsm.Error{HSM: "it", Op: "open", Kind: hsm.ErrUnavailable}
	late := &hsm.Error{HSM: "it", Op: "start", Kind: hsm.ErrTimeout}
	refused := &hsm.Error{HSM: "it", Op: "login", Kind: hsm.ErrPINIncorrect}
	for name, c := range map[string]struct {
		a, b error
		wait string // beginning of the error with start_without_hsms: wait; "": none
		exit string
	}{
		"both serve":                {},
		"one is away":               {a: away},
		"one hangs":                 {b: late},
		"both are away":             {a: away, b: late, exit: "no HSM of the HSM group main can be used (start_without_hsms: wait would wait for one): it: "},
		"one is a mistake":          {a: refused, wait: "an HSM that was never reached before cannot be used: ", exit: "an HSM that was never reached before cannot be used: "},
		"one away, one a mistake":   {a: away, b: refused, wait: "an HSM that was never reached before cannot be used: ", exit: "an HSM that was never reached before cannot be used: "},
		"both are mistakes":         {a: refused, b: refused, wait: "no HSM can be used: ", exit: "no HSM can be used: "},
		"one serves, one a mistake": {b: refused, wait: "an HSM that was never reached before cannot be used: ", exit: "an HSM that was never reached before cannot be used: "},
	} {
		for mode, want := range map[string]string{"wait": c.wait, startExit: c.exit} {
			p := hsmStart{log: zap.NewNop(), config: &config.Config{
				StartWithoutHSMs: mode, HSMs: []config.HSM{{Name: "a"}, {Name: "b"}},
				HSMGroups: []config.Group{{Name: "main", HSMs: []config.GroupMember{{HSM: "a"}, {HSM: "b"}}}},
			}}
			err := p.judge(outcomes{"a": c.a, "b": c.b})
			switch {
			case want == "" && err != nil:
				t.Errorf("%s, %s: %v", name, mode, err)
			case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)),
				errors.Is(err, hsm.ErrPINIncorrect) && !strings.HasSuffix(err.Error(), "; correct the PIN and start again"):
				t.Errorf("%s, %s: %v, want %q", name, mode, err, want)
			}
		}
	}
}

// Each group is judged for itself: one that serves does not help another.
func TestJudgeEachGroup(t *testing.T) {
	away := &hsm.Error{HSM: "b", Op: "open", Kind: hsm.ErrUnavailable}
	p := hsmStart{log: zap.NewNop(), config: &config.Config{
		StartWithoutHSMs: startExit, HSMs: []config.HSM{{Name: "a"}, {Name: "b"}},
		HSMGroups: []config.Group{{Name: "first", HSMs: []config.GroupMember{{HSM: "a"}}}, {Name: "second", HSMs: []config.GroupMember{{HSM: "b"}}}},
	}}
	err := p.judge(outcomes{"a": nil, "b": away})
	if err == nil || !strings.HasPrefix(err.Error(), "no HSM of the HSM group second can be used") {
		t.Errorf("exit: %v", err)
	}
	p.config.StartWithoutHSMs = "wait"
	err = p.judge(outcomes{"a": nil, "b": away})
	if err != nil {
		t.Errorf("wait: %v", err)
	}
}
