package authz

// The entities of one request: its principal, its key, and the actions.

import "github.com/cedar-policy/cedar-go/types"

// entities is the types.EntityGetter of one request. Accounts, roles and key stores have no
// attributes here and need not be found: being an ancestor is enough.
type entities struct {
	request   *Request
	principal principal
	ancestors []types.EntityUID // of the principal
	key       types.EntityUID
	keyStore  types.EntityUID
	wanted    reads // attributes; those that no policy reads are not computed

	principalEntity, keyEntity *types.Entity
}

func newEntities(r *Request) *entities {
	e := &entities{
		request: r, principal: parsePrincipal(r.PrincipalARN), key: keyUID(r.KeyStore, r.KeyID),
		keyStore: types.NewEntityUID(typeKeyStore, types.String(r.KeyStore)),
	}
	e.ancestors = e.principal.ancestors()
	return e
}

func keyUID(keyStore, keyID string) types.EntityUID {
	return types.NewEntityUID(typeKey, types.String(keyStore+"/"+keyID))
}

func actionUID(a Action) types.EntityUID {
	return types.NewEntityUID(typeAction, types.String(a))
}

var (
	actionParents  = types.NewEntityUIDSet(actionUID(actionGroup))
	actionEntities = func() map[types.EntityUID]types.Entity {
		found := make(map[types.EntityUID]types.Entity, len(actions))
		for _, a := range actions {
			found[actionUID(a)] = types.Entity{UID: actionUID(a), Parents: actionParents}
		}
		return found
	}()
)

// Get implements types.EntityGetter.
func (e *entities) Get(uid types.EntityUID) (types.Entity, bool) {
	switch {
	case uid == e.principal.uid:
		if e.principalEntity == nil {
			e.principalEntity = &types.Entity{
				UID: uid, Parents: types.NewEntityUIDSet(e.ancestors...),
			}
			if e.wanted&readsAttributes != 0 {
				e.principalEntity.Attributes = e.principal.attributes()
			}
		}
		return *e.principalEntity, true
	case uid == e.key:
		if e.keyEntity == nil {
			e.keyEntity = &types.Entity{UID: uid, Parents: types.NewEntityUIDSet(e.keyStore)}
			if e.wanted&readsKey != 0 {
				e.keyEntity.Attributes = e.keyAttributes()
			}
		}
		return *e.keyEntity, true
	default:
		found, ok := actionEntities[uid]
		return found, ok
	}
}

func (e *entities) keyAttributes() types.Record {
	r := e.request
	m := types.RecordMap{"id": types.String(r.KeyID), "keyStore": types.String(r.KeyStore)}
	if isReadable(r.KeyLabel) {
		m["label"] = types.String(r.KeyLabel)
	}
	if isReadable(r.Owner) {
		m["owner"] = types.String(r.Owner)
	}
	return types.NewRecord(m)
}
