//! Taking names away from images, and images away with their last name, unless somebody needs them.

use std::time::SystemTime;

use bty_types::{ImageId, ImageName, ImageSelector};

use crate::{
    images::{Aged, Policy, aged},
    problem::Problem,
    record::NewEvent,
    store::{Snapshot, Transaction},
};

/// What a pruning does, or would do.
#[derive(Debug, Default)]
pub(crate) struct Pruning {
    /// What goes.
    pub(crate) going: Vec<Aged>,
    /// What would, but is needed, and by whom.
    pub(crate) kept: Vec<(Aged, String)>,
}

/// The image that is meant.
pub(crate) fn find_image(
    snapshot: &Snapshot<'_>,
    selector: &ImageSelector,
) -> Result<ImageId, Problem> {
    snapshot.image_id(selector)?.ok_or_else(|| Problem::NoImage(selector.to_string()))
}

/// Takes a name away, and the image too where an id was given or the name was its last. Returns the image that went.
pub(crate) fn delete_image(
    transaction: &mut Transaction<'_>,
    selector: &ImageSelector,
    actor: String,
) -> Result<Option<ImageId>, Problem> {
    let id = find_image(transaction, selector)?;
    let names = names_of(transaction, id)?;
    let removes_image = matches!(selector, ImageSelector::Id(_)) || names.len() <= 1;
    let names = match selector {
        ImageSelector::Name(name) if !removes_image => vec![name.clone()],
        ImageSelector::Name(_) | ImageSelector::Id(_) => names,
    };
    if let Some(need) = need(transaction, id, &names, removes_image)? {
        return Err(Problem::ImageInUse(format!("{selector} is needed: {need}")));
    }
    let message = if removes_image {
        format!("deleted {selector} and its image")
    } else {
        format!("took the name {selector} away")
    };
    remove(transaction, id, &names, removes_image)?;
    tell(transaction, id, actor, message)?;
    Ok(removes_image.then_some(id))
}

/// What has grown old, and what of that is needed.
pub(crate) fn prunable_images(
    snapshot: &Snapshot<'_>,
    policy: &Policy,
    now: SystemTime,
) -> Result<Pruning, Problem> {
    let mut pruning = Pruning::default();
    for aged in aged(&snapshot.images()?, &snapshot.pointers()?, policy, now) {
        match need(snapshot, aged.id, &aged.names, aged.is_removed)? {
            Some(need) => pruning.kept.push((aged, need)),
            None => pruning.going.push(aged),
        }
    }
    Ok(pruning)
}

/// Removes what has grown old and nobody needs.
pub(crate) fn prune_images(
    transaction: &mut Transaction<'_>,
    policy: &Policy,
    actor: &str,
) -> Result<Pruning, Problem> {
    let pruning = prunable_images(transaction, policy, transaction.now())?;
    for Aged { id, names, is_removed, .. } in &pruning.going {
        remove(transaction, *id, names, *is_removed)?;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        let message = match (names.is_empty(), is_removed) {
            (true, _) => format!("pruned {id}, which had no name"),
            (false, true) => format!("pruned {names} and its image"),
            (false, false) => format!("pruned the name {names}"),
        };
        tell(transaction, *id, actor.to_owned(), message)?;
    }
    Ok(pruning)
}

/// Why these names of an image, or all of it, can't go; nothing where they can.
fn need(
    snapshot: &Snapshot<'_>,
    id: ImageId,
    names: &[ImageName],
    is_removed: bool,
) -> Result<Option<String>, Problem> {
    if is_removed && snapshot.is_image_in_use(id)? {
        return Ok(Some("a run under way writes it: wait for its end".to_owned()));
    }
    let mut users = Vec::new();
    for name in names {
        users.extend(snapshot.machines_assigned(&ImageSelector::Name(name.clone()))?);
    }
    if is_removed {
        users.extend(snapshot.machines_assigned(&ImageSelector::Id(id))?);
    }
    users.sort_unstable();
    users.dedup();
    let Some(first) = users.first() else { return Ok(None) };
    let count = users.len();
    Ok(Some(format!(
        "it is assigned to {count} machine(s), {first} for one: assign another image first"
    )))
}

fn names_of(snapshot: &Snapshot<'_>, id: ImageId) -> Result<Vec<ImageName>, Problem> {
    let names = snapshot.names_of(id)?;
    names.iter().map(|name| name.parse().map_err(Problem::field("name"))).collect()
}

fn remove(
    transaction: &mut Transaction<'_>,
    id: ImageId,
    names: &[ImageName],
    is_removed: bool,
) -> Result<(), Problem> {
    if is_removed {
        transaction.delete_image(id)?;
        return Ok(());
    }
    for name in names {
        transaction.delete_name(name)?;
    }
    Ok(())
}

fn tell(
    transaction: &mut Transaction<'_>,
    id: ImageId,
    actor: String,
    message: String,
) -> Result<(), Problem> {
    let image_id = Some(id);
    transaction.event(NewEvent {
        kind: "image.deleted",
        actor,
        image_id,
        message,
        ..NewEvent::default()
    })?;
    Ok(())
}
