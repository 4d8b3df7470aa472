// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/avatar"
	"github.com/minigate/minigate/module/profile"
)

const (
	// maxPicture is the largest picture that can be uploaded, in bytes.
	maxPicture = 2 << 20

	// maxForm is the largest body that has such a picture in it.
	maxForm = maxPicture + 64<<10

	// avatarPath begins the paths of pictures below Handler.Endpoints.
	avatarPath = "avatar/"
)

// Failures of an upload, under the words of the failures that they are.
var (
	errPictureType     = newError(http.StatusUnsupportedMediaType, errMediaType.Word, "send a JPEG, PNG or WebP picture as the file of a multipart/form-data body")
	errPictureTooLarge = newError(http.StatusRequestEntityTooLarge, errTooLarge.Word, "a picture can have 2 MiB and 10 megapixels")
	errPictureBroken   = newError(http.StatusBadRequest, errInvalidRequest.Word, "the picture cannot be read")
)

// serveAvatarUpload answers POST /profile/avatar: the picture that chooseAvatar
// left on the phone becomes the one that the user states.
func (h *Handler) serveAvatarUpload(w http.ResponseWriter, r *http.Request, user *userRequest) error {
	end, ok := user.runtime.state.uploads.begin(user.session.Subject)
	if !ok {
		return writeError(w, r, errRateLimited.retryAfter(uploadRetryAfter))
	}
	defer end()
	data, failure := readPicture(w, r)
	if failure != nil {
		return writeError(w, r, failure)
	}
	ctx, cancel := context.WithTimeout(r.Context(), uploadTime)
	defer cancel()
	picture, err := avatar.Normalize(ctx, data)
	switch {
	case ctx.Err() != nil:
		return writeError(w, r, errRateLimited.retryAfter(uploadRetryAfter))
	case errors.Is(err, avatar.ErrType):
		return writeError(w, r, errPictureType)
	case errors.Is(err, avatar.ErrTooLarge):
		return writeError(w, r, errPictureTooLarge)
	case err != nil:
		return writeError(w, r, errPictureBroken)
	}
	kept, failure := h.setAvatar(r, user, picture)
	if failure != nil {
		return writeError(w, r, failure)
	}
	return writeProfile(w, user, kept)
}

// setAvatar makes a picture the user's. The profile names it before it is put in
// its place, so that whatever happens in between there is never a picture that
// nobody knows of and nothing removes; what has become of the profile meanwhile is
// looked at afterwards.
func (h *Handler) setAvatar(r *http.Request, user *userRequest, picture avatar.Picture) (*profile.Profile, *Error) {
	rt, p, a := user.runtime, h.allowed[user.session.Identity.Program], author(user.session)
	name := avatar.NewName(picture)
	var before profile.Profile
	kept, failure := rt.changeProfile(r.Context(), p, a, func(p *profile.Profile) error {
		before = *p
		p.Avatar, p.Stated.AvatarURL = name, h.avatarURL(r, name)
		return nil
	})
	if failure != nil {
		return nil, failure
	}
	ctx := context.WithoutCancel(r.Context())
	if err := rt.avatars.Put(ctx, name, picture); err != nil {
		_, _ = rt.changeProfile(ctx, p, a, func(p *profile.Profile) error {
			if p.Avatar == name {
				p.Avatar, p.Stated.AvatarURL = before.Avatar, before.Stated.AvatarURL
			}
			return nil
		})
		return nil, p.storeFailure(err)
	}
	if now, err := rt.profiles.Get(ctx, a.Subject); err == nil && now.Avatar != name {
		rt.dropAvatar(ctx, p, name) // erased, or replaced by another one
	}
	rt.dropAvatar(ctx, p, before.Avatar)
	return kept, nil
}

// readPicture returns the file in a form.
func readPicture(w http.ResponseWriter, r *http.Request) ([]byte, *Error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	form, err := r.MultipartReader()
	if err != nil {
		return nil, errPictureType
	}
	var data []byte
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) && errors.Unwrap(err) == nil {
			break // the end of the form; where it is cut off, the error is wrapped
		}
		if err != nil {
			return nil, formFailure(err)
		}
		if part.FileName() == "" {
			continue // a field that the developer added
		}
		if data != nil {
			return nil, errInvalidRequest
		}
		if data, err = io.ReadAll(io.LimitReader(part, maxPicture+1)); err != nil {
			return nil, formFailure(err)
		}
		if len(data) > maxPicture {
			return nil, errPictureTooLarge
		}
	}
	if len(data) == 0 {
		return nil, errPictureType
	}
	return data, nil
}

func formFailure(err error) *Error {
	if errors.As(err, new(*http.MaxBytesError)) {
		return errPictureTooLarge
	}
	return errInvalidRequest
}

// avatarURL returns the address of a picture, as the client sees this site.
func (h *Handler) avatarURL(r *http.Request, name string) string {
	u := url.URL{Scheme: "http", Host: r.Host, Path: h.prefix + avatarPath + name}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if r.Header.Get("X-Forwarded-Proto") == "https" {
			u.Scheme = "https"
		}
		if host, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ","); host != "" {
			u.Host = strings.TrimSpace(host)
		}
	}
	return u.String()
}

// serveAvatar answers a request for a picture. Whoever knows its name may see
// it: pages show pictures without credentials.
func (h *Handler) serveAvatar(w http.ResponseWriter, r *http.Request, name string) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return writeError(w, r, errMethod)
	}
	rt, err := h.app.runtime()
	if err != nil {
		return writeError(w, r, h.storeFailure(r, err))
	}
	picture, err := rt.avatars.Get(r.Context(), name)
	switch {
	case errors.Is(err, avatar.ErrNotFound):
		return writeError(w, r, errNotFound)
	case err != nil:
		return writeError(w, r, h.storeFailure(r, err))
	}
	header := w.Header()
	header.Set("Content-Type", picture.Type)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	// A phone may keep it for a while; what stands between must not, or it would
	// outlive its erasure.
	header.Set("Cache-Control", "private, max-age=3600")
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(picture.Data); err != nil {
		h.logger.Debug("picture is not sent", zap.Error(err))
	}
	return nil
}

// isAvatar returns the name of the picture that a path below Handler.Endpoints
// is the address of.
func isAvatar(path string) (name string, ok bool) {
	name, ok = strings.CutPrefix(path, avatarPath)
	return name, ok && avatar.IsName(name)
}

// dropAvatar deletes a picture that nobody refers to any more. name may be
// empty.
func (rt *runtime) dropAvatar(ctx context.Context, p *program, name string) {
	if name == "" {
		return
	}
	if err := rt.avatars.Delete(context.WithoutCancel(ctx), name); err != nil {
		p.logger.Warn("a picture is not deleted", zap.Error(err))
	}
}

// movedAvatars keeps pictures in a new place, and finds and deletes those that
// were put into an old one.
type movedAvatars struct {
	avatar.Keeper
	old avatar.Keeper
}

// Get implements avatar.Keeper.
func (k movedAvatars) Get(ctx context.Context, name string) (avatar.Picture, error) {
	picture, err := k.Keeper.Get(ctx, name)
	if errors.Is(err, avatar.ErrNotFound) {
		return k.old.Get(ctx, name)
	}
	return picture, err
}

// Delete implements avatar.Keeper.
func (k movedAvatars) Delete(ctx context.Context, name string) error {
	return errors.Join(k.Keeper.Delete(ctx, name), k.old.Delete(ctx, name))
}

// Refresh implements avatar.Keeper.
func (k movedAvatars) Refresh(ctx context.Context, name string) error {
	return errors.Join(k.Keeper.Refresh(ctx, name), k.old.Refresh(ctx, name))
}

// Sweep implements avatar.Keeper.
func (k movedAvatars) Sweep(ctx context.Context) error {
	return errors.Join(k.Keeper.Sweep(ctx), k.old.Sweep(ctx))
}

// Interface guard
var _ avatar.Keeper = movedAvatars{}
