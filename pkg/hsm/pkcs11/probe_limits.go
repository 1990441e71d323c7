package pkcs11

// The limits of an HSM, as a probe finds them: sizes, sessions, and what calls cost.

import (
	"context"
	"fmt"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

func (p *prober) limitAAD(ctx context.Context) error {
	limit, answer, err := p.bisect(ctx, hsm.MaxAADSize, func(n int) error {
		return p.roundTrip(make([]byte, n), probePlaintext)
	})
	if err != nil {
		return err
	}
	p.profile.MaxAAD = limit
	if answer != nil {
		p.remark("an AAD of more than %d bytes is refused: %v", limit, answer)
	}
	p.publish()
	return nil
}

func (p *prober) limitData(ctx context.Context) error {
	limit, answer, err := p.bisect(ctx, hsm.MaxDataSize, func(n int) error {
		return p.roundTrip(probeAAD, make([]byte, n))
	})
	if err != nil {
		return err
	}
	p.profile.MaxData = limit
	if answer != nil {
		p.remark("a plaintext of more than %d bytes is refused: %v", limit, answer)
	}
	p.publish()
	return nil
}

// bisect finds the largest size, up to most, that works, and what is said of a larger one. It is an
// error if MinLimit does not.
func (p *prober) bisect(ctx context.Context, most int, works func(int) error) (int, error, error) {
	answer := works(most)
	if answer == nil {
		return most, nil, nil
	}
	good, bad := MinLimit, most
	err := works(good)
	if err != nil {
		return 0, nil, fmt.Errorf("not even %d bytes work, which the proxy needs: %w", good, err)
	}
	for bad-good > 1 {
		if ctx.Err() != nil {
			return 0, nil, timeout("look for a limit", ctx)
		}
		middle := (good + bad) / 2
		err := works(middle)
		if err == nil {
			good = middle
		} else {
			bad, answer = middle, err
		}
	}
	return good, answer, nil
}

// measureRounds are measured, and give one figure.
const measureRounds = 20

func (p *prober) measure(context.Context) error {
	aad := make([]byte, 300) // as AWS KMS sends
	start := time.Now()
	for range measureRounds {
		_, err := p.seal(aad, probePlaintext)
		if err != nil {
			return err
		}
	}
	p.report.EncryptTime = hsm.Milliseconds(time.Since(start) / measureRounds)
	return nil
}

func (p *prober) listKeys(ctx context.Context) error {
	start := time.Now()
	keys, err := p.t.Keys(ctx)
	if err != nil {
		return err
	}
	p.report.Keys, p.report.ListTime = len(keys), hsm.Milliseconds(time.Since(start))
	return nil
}

// maxProbeSessions bounds the sessions that the probe opens.
const maxProbeSessions = 64

func (p *prober) countSessions(context.Context) error {
	var extra []p11.SessionHandle
	defer func() {
		for _, session := range extra {
			_ = p.t.module.ctx.CloseSession(session)
		}
	}()
	p.drop()
	open := 1 // of the keys
	if p.t.config.UserType.logsIn() {
		open++
	}
	flags := uint(p11.CKF_SERIAL_SESSION)
	if !p.profile.ReadOnlySessions {
		flags |= p11.CKF_RW_SESSION
	}
	for open+len(extra) < maxProbeSessions {
		session, err := p.t.module.ctx.OpenSession(p.slot.id, flags)
		if err != nil {
			p.report.SessionLimit = code(err).String()
			break
		}
		extra = append(extra, session)
	}
	p.report.Sessions = open + len(extra)
	return nil
}
