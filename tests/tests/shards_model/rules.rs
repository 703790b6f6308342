//! What the model does, rule by rule.

use super::cases::Filter;

/// The rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    /// SUBACK waits until all shards know of the subscription.
    Confirms,
    /// A message without RETAIN is not taken before the owner has answered.
    PlainAfterAnswer,
    /// Nor one with RETAIN.
    RetainedAfterAnswer,
    /// The owner is asked with the announcement, not when the subscription stands.
    AskedAtOnce,
    /// It is asked whether others know of the filter already or not.
    AlwaysAsked,
    /// The owner knows of the subscription before it answers.
    AnnouncedFirst,
    /// Messages with RETAIN go to the owner only.
    OneWay,
    /// A publisher changes its way only when what it sent before has been taken.
    WayAfterTaken,
    /// What an owner got is taken when those it handed it to have taken it.
    OwnerWaits,
    /// Links keep order.
    LinksKeepOrder,
    /// A new subscription stands when all owners have answered, not one.
    AllAnswers,
    /// What an owner answers to one that is replaced waits for no other owner.
    AnswersAtOnce,
    /// A route that is wanted again is not withdrawn.
    WantedStays,
    /// What was withdrawn is announced anew.
    AnnouncedAnew,
    /// A subscription waits for the number of its own announcement, not for an older one.
    OwnNumber,
    /// One that finds its filter announced waits until that is confirmed.
    PendingWaits,
    /// An answer is one to the SUBSCRIBE that asked, not to a later one.
    OwnAnswer,
    /// What is held behind a gate goes with its subscription.
    HeldGoes,
    /// Nothing is for who has unsubscribed.
    GoneGetsNothing,
}

/// Each with a subscription that shows that it is needed, with the publishers near and far.
pub(super) const RULES: [(Broken, Filter); 19] = [
    (Broken::Confirms, Filter::Exact),
    (Broken::PlainAfterAnswer, Filter::Exact),
    (Broken::RetainedAfterAnswer, Filter::Exact),
    (Broken::AskedAtOnce, Filter::Exact),
    (Broken::AnnouncedFirst, Filter::Exact),
    (Broken::OneWay, Filter::Exact),
    (Broken::WayAfterTaken, Filter::Exact),
    (Broken::OwnerWaits, Filter::Exact),
    (Broken::LinksKeepOrder, Filter::Exact),
    (Broken::AllAnswers, Filter::Wild),
    (Broken::AnswersAtOnce, Filter::Standing),
    (Broken::AlwaysAsked, Filter::Twice),
    (Broken::WantedStays, Filter::Twice),
    (Broken::AnnouncedAnew, Filter::Twice),
    (Broken::OwnNumber, Filter::Twice),
    (Broken::PendingWaits, Filter::Twice),
    (Broken::OwnAnswer, Filter::Twice),
    (Broken::HeldGoes, Filter::Twice),
    (Broken::GoneGetsNothing, Filter::Twice),
];
