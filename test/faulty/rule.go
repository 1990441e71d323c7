package faulty

// Rules: which calls misbehave, how, how often, and how that reads in a table.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"xks-proxy/pkg/hsm"
)

// Action is what happens to a call that a rule hits.
type Action uint32

// The actions. A call that several rules hit takes them in their order, until one ends it.
const (
	Delay       Action = iota + 1 // nothing but the rule's Delay and Jitter
	Return                        // Code is answered and the HSM not called
	ErrorAfter                    // the HSM is called, it takes effect, and Code is answered
	Hang                          // the call blocks until the rule is gone, then goes on
	HangForever                   // the call blocks for as long as the process lives
	Crash                         // SIGSEGV
	Abort                         // abort()
	Exit                          // the process ends with the exit code Code
	FlipBit                       // of what C_Encrypt or C_Decrypt gives, one bit is another
	Truncate                      // C_Encrypt or C_Decrypt gives one byte less
	DropLogin                     // the HSM forgets the login, then the call goes on
)

// verbs are for one call and for several.
var verbs = map[Action][2]string{
	Delay:       {"", ""},
	Return:      {"answers", "answer"},
	ErrorAfter:  {"takes effect and answers", "take effect and answer"},
	Hang:        {"hangs", "hang"},
	HangForever: {"hangs forever", "hang forever"},
	Crash:       {"crashes", "crash"},
	Abort:       {"aborts", "abort"},
	Exit:        {"exits with", "exit with"},
	FlipBit:     {"gives a flipped bit", "give a flipped bit"},
	Truncate:    {"gives a byte too few", "give a byte too few"},
	DropLogin:   {"loses the login", "lose the login"},
}

const (
	MaxRules = 32 // that can hold at once
	MaxLabel = 64 // bytes of a rule's label
)

const million = 1_000_000

// Rule is one fault. Function and Action are needed; of the rest the zero value will do.
type Rule struct {
	Function   string // "C_Encrypt", …, or Every, Sessions, Crypto
	Action     Action
	Code       hsm.CKR       // of Return and ErrorAfter; of Exit the exit code, 0 to 255
	Delay      time.Duration // waited before the action, in whole microseconds
	Jitter     time.Duration // of this, a random part (uniform) is waited as well
	After      uint64        // so many matching calls are spared first
	Times      uint64        // so many calls are hit at most; 0: no limit
	PerMillion uint32        // so many of the matching calls are hit, by chance; 0: all

	// Which calls match, besides the function. The zero value is any. An object that cannot be read
	// is Function "C_GetAttributeValue", Action Return and one of Label and Object.
	Label    string // those with an object of this label, byte by byte; C_Encrypt's is its key
	Object   int    // those with the n-th object, from 1, that searches of the process have found
	DataOver int    // C_Encrypt and C_Decrypt with an input of more bytes
	AADOver  int    // Crypto calls with an AAD of more bytes
}

// functions gives the functions that the rule can hit.
func (r Rule) functions() (functionSet, error) {
	set, err := named(r.Function)
	if err != nil {
		return functionSet{}, err
	}
	switch r.Action {
	case FlipBit, Truncate:
		set = set.and(spoilableCalls)
	case DropLogin:
		set = set.and(sessionCalls)
	}
	if r.Label != "" || r.Object != 0 {
		set = set.and(objectCalls)
	}
	if r.DataOver != 0 {
		set = set.and(spoilableCalls)
	}
	if r.AADOver != 0 {
		set = set.and(cryptoCalls)
	}
	if set.empty() {
		return functionSet{}, errors.New("the function cannot do this: only C_Encrypt and C_Decrypt " +
			"give an output to spoil, only calls in a session can lose the login, and only some " +
			"have objects, data or AAD")
	}
	return set, nil
}

func (r Rule) check() error {
	_, known := verbs[r.Action]
	_, err := r.functions()
	switch {
	case !known:
		return fmt.Errorf("action %d is unknown", r.Action)
	case err != nil:
		return err
	case r.Delay < 0 || r.Jitter < 0:
		return errors.New("a delay below 0")
	case r.Action == Delay && r.Delay == 0 && r.Jitter == 0:
		return errors.New("a delay of nothing")
	case (r.Action == Return || r.Action == ErrorAfter) && r.Code == hsm.CKROK:
		return errors.New("the code to answer is missing")
	case r.Action == Exit && r.Code > 255:
		return fmt.Errorf("exit code %d is over 255", uint32(r.Code))
	case r.Object < 0 || r.DataOver < 0 || r.AADOver < 0:
		return errors.New("an object, data or AAD below 0")
	case len(r.Label) > MaxLabel:
		return fmt.Errorf("label over %d bytes", MaxLabel)
	case r.PerMillion > million:
		return fmt.Errorf("%d of a million calls", r.PerMillion)
	}
	return nil
}

// String reads as a line of a table: "C_Encrypt hangs", "every call +50 ms", "5 % of
// calls answer CKR_DEVICE_ERROR".
func (r Rule) String() string {
	words := append([]string{r.subject()}, r.matches()...)
	if r.Delay > 0 || r.Jitter > 0 {
		words = append(words, r.delay())
	}
	if r.Action != Delay {
		words = append(words, r.verb())
	}
	if r.Action == Return || r.Action == ErrorAfter {
		name, _, _ := strings.Cut(r.Code.String(), " ")
		words = append(words, name)
	}
	if r.Action == Exit {
		words = append(words, strconv.FormatUint(uint64(r.Code), 10))
	}
	return strings.Join(append(words, r.occasions()...), " ")
}

func (r Rule) subject() string {
	if r.PerMillion != 0 {
		share := strconv.FormatFloat(float64(r.PerMillion)/(million/100), 'f', -1, 64) + " % of "
		switch r.Function {
		case Every:
			return share + "calls"
		case Sessions, Crypto:
			return share + r.Function + " calls"
		default:
			return share + r.Function + "s"
		}
	}
	switch r.Function {
	case Every:
		return "every call"
	case Sessions, Crypto:
		return "every " + r.Function + " call"
	default:
		return r.Function
	}
}

func (r Rule) matches() []string {
	var words []string
	if r.Label != "" {
		words = append(words, fmt.Sprintf("with %q", r.Label))
	}
	if r.Object != 0 {
		words = append(words, fmt.Sprintf("with object %d", r.Object))
	}
	if r.DataOver != 0 {
		words = append(words, fmt.Sprintf("with data over %d bytes", r.DataOver))
	}
	if r.AADOver != 0 {
		words = append(words, fmt.Sprintf("with AAD over %d bytes", r.AADOver))
	}
	return words
}

func (r Rule) delay() string {
	milliseconds := func(d time.Duration) string {
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64)
	}
	if r.Jitter == 0 {
		return "+" + milliseconds(r.Delay) + " ms"
	}
	return "+" + milliseconds(r.Delay) + "–" + milliseconds(r.Delay+r.Jitter) + " ms"
}

func (r Rule) verb() string {
	forms, known := verbs[r.Action]
	switch {
	case !known:
		return fmt.Sprintf("does %d", r.Action)
	case r.PerMillion != 0:
		return forms[1]
	default:
		return forms[0]
	}
}

func (r Rule) occasions() []string {
	var words []string
	switch r.Times {
	case 0:
	case 1:
		words = append(words, "once")
	default:
		words = append(words, fmt.Sprintf("%d times", r.Times))
	}
	if r.After != 0 {
		words = append(words, fmt.Sprintf("after %d calls", r.After))
	}
	return words
}
