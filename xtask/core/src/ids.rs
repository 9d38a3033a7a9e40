//! Names components, images, steps and tasks by their places in their lists. Each list has a
//! type of id of its own, so that none can be taken for another.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};
use std::{slice, vec};

/// The place of an element in an [`IdVec`].
pub trait Id: Copy {
    /// The id of a place, starting at 0.
    fn at(place: usize) -> Self;

    /// The place that it stands for.
    fn place(self) -> usize;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(usize);

        impl Id for $name {
            fn at(place: usize) -> Self {
                Self(place)
            }

            fn place(self) -> usize {
                self.0
            }
        }
    )*};
}

ids! {
    /// A component of a workspace.
    ComponentId
    /// An image of a component.
    ImageId
    /// A step of a plan.
    StepId
    /// A task of a plan.
    TaskId
}

/// A list whose elements are named by their ids.
#[derive(Debug, PartialEq, Eq)]
pub struct IdVec<I, T> {
    elements: Vec<T>,
    ids: PhantomData<I>,
}

impl<I, T> IdVec<I, T> {
    /// An empty list.
    pub const fn new() -> Self {
        Self { elements: Vec::new(), ids: PhantomData }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// All elements, in order.
    pub fn iter(&self) -> slice::Iter<'_, T> {
        self.elements.iter()
    }

    /// All elements, in order, to change them.
    pub fn iter_mut(&mut self) -> slice::IterMut<'_, T> {
        self.elements.iter_mut()
    }

    /// All elements, in order, without their ids.
    pub fn as_slice(&self) -> &[T] {
        &self.elements
    }
}

impl<I: Id, T> IdVec<I, T> {
    /// The ids of all elements, in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = I> + use<I, T> {
        (0..self.len()).map(I::at)
    }

    /// All elements with their ids, in order.
    pub fn enumerate(&self) -> impl Iterator<Item = (I, &T)> {
        self.ids().zip(self)
    }

    /// Adds an element, and returns its id.
    pub fn push(&mut self, element: T) -> I {
        self.elements.push(element);
        I::at(self.len() - 1)
    }
}

impl<I, T> Default for IdVec<I, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I: Id, T> Index<I> for IdVec<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        &self.elements[id.place()]
    }
}

impl<I: Id, T> IndexMut<I> for IdVec<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        &mut self.elements[id.place()]
    }
}

impl<I, T> FromIterator<T> for IdVec<I, T> {
    fn from_iter<E: IntoIterator<Item = T>>(elements: E) -> Self {
        Self { elements: elements.into_iter().collect(), ids: PhantomData }
    }
}

impl<I, T> IntoIterator for IdVec<I, T> {
    type Item = T;
    type IntoIter = vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.elements.into_iter()
    }
}

impl<'a, I, T> IntoIterator for &'a IdVec<I, T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, I, T> IntoIterator for &'a mut IdVec<I, T> {
    type Item = &'a mut T;
    type IntoIter = slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}
