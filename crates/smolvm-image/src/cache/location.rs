//! Where the cache lies: the default, and paths that start with `~`.

use std::path::{Component, Path, PathBuf};

use crate::error::ImageError;

/// The absolute path of a cache directory: `~/.smolvm/images` for none or a blank one; a leading
/// `~` or `~user` is expanded.
pub(crate) fn resolve(cache_dir: Option<&Path>) -> Result<PathBuf, ImageError> {
    let given = cache_dir.filter(|path| path.to_str().is_none_or(|text| !text.trim().is_empty()));
    let path = expand(given.unwrap_or(Path::new("~/.smolvm/images")))?;
    std::path::absolute(&path).map_err(|error| ImageError::io(&path, "find", error))
}

fn expand(path: &Path) -> Result<PathBuf, ImageError> {
    let unknown = || ImageError::Home { path: path.to_owned() };
    let mut components = path.components();
    let Some(Component::Normal(first)) = components.next() else {
        return Ok(path.to_owned());
    };
    let Some(user) = first.to_str().and_then(|text| text.strip_prefix('~')) else {
        return Ok(path.to_owned());
    };
    let home = if user.is_empty() {
        home::home_dir().filter(|home| home.is_absolute())
    } else {
        nix::unistd::User::from_name(user).ok().flatten().map(|user| user.dir)
    };
    Ok(home.ok_or_else(unknown)?.join(components.as_path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behaviour 42: blank means the default, never the current directory.
    #[test]
    fn blank_is_the_default() {
        let default = resolve(None).unwrap();
        assert!(default.is_absolute() && default.ends_with(".smolvm/images"), "{default:?}");
        assert_eq!(resolve(Some(Path::new(""))).unwrap(), default);
        assert_eq!(resolve(Some(Path::new("  "))).unwrap(), default);
    }

    /// Behaviour 42: `~` and `~user` expand, or fail by name.
    #[test]
    fn tildes() {
        let home = home::home_dir().unwrap();
        assert_eq!(resolve(Some(Path::new("~"))).unwrap(), home);
        assert_eq!(resolve(Some(Path::new("~/a/b"))).unwrap(), home.join("a/b"));
        assert_eq!(resolve(Some(Path::new("~root/x"))).unwrap(), Path::new("/root/x"));
        let error = resolve(Some(Path::new("~no-such-user/x"))).unwrap_err();
        assert!(error.to_string().contains("~no-such-user/x"), "{error}");
        assert_eq!(resolve(Some(Path::new("/a/~b"))).unwrap(), Path::new("/a/~b"));
    }
}
